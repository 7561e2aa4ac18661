//! Dense layers and normalisations.

use super::{Rows, Run, Tensors, Weight};
use crate::Result;

/// y = x·Wᵀ + b.
pub struct Linear {
    weight: Weight,
    bias: Option<Vec<f32>>,
}

impl Linear {
    /// `name.weight` with `outputs` rows of `inputs` weights, and `name.bias` if there is one.
    ///
    /// # Errors
    /// As [`Tensors::matrix`].
    pub fn read(tensors: &Tensors, name: &str, outputs: usize, inputs: usize) -> Result<Self> {
        Ok(Self {
            weight: tensors.matrix(&format!("{name}.weight"), outputs, inputs)?,
            bias: tensors.optional_vector(&format!("{name}.bias"), outputs)?,
        })
    }

    /// The layers that `name.weight` and `name.bias` hold one after the other, of so many `outputs` each.
    ///
    /// # Errors
    /// As [`Tensors::matrix`].
    pub fn read_parts<const N: usize>(
        tensors: &Tensors,
        name: &str,
        outputs: [usize; N],
        inputs: usize,
    ) -> Result<[Self; N]> {
        let all = Self::read(tensors, name, outputs.iter().sum(), inputs)?;
        let mut first = 0;
        Ok(outputs.map(|count| {
            let weight = all.weight.part(first, count);
            let bias = all.bias.as_ref().map(|bias| bias[first..][..count].to_vec());
            first += count;
            Self { weight, bias }
        }))
    }

    /// As [`Linear::read`], for a file that has inputs as rows and outputs as columns.
    ///
    /// # Errors
    /// As [`Tensors::matrix`].
    pub fn read_transposed(tensors: &Tensors, name: &str, outputs: usize, inputs: usize) -> Result<Self> {
        Ok(Self {
            weight: tensors.matrix(&format!("{name}.weight"), inputs, outputs)?.transposed(),
            bias: tensors.optional_vector(&format!("{name}.bias"), outputs)?,
        })
    }

    /// y for each row x.
    ///
    /// # Errors
    /// What the check says.
    pub fn apply(&self, x: &Rows, run: &mut Run<'_>) -> Result<Rows> {
        self.weight.product(x, self.bias.as_deref(), run)
    }

    /// Bytes of the weights.
    pub fn memory(&self) -> usize {
        self.weight.memory() + self.bias.as_ref().map_or(0, |b| b.len() * 4)
    }
}

/// A normalisation of each row.
pub struct Norm {
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    epsilon: f32,
    /// Whether the mean is taken off (layer normalisation, Ba et al. 2016) or not (RMS, Zhang and Sennrich 2019).
    centred: bool,
}

impl Norm {
    /// Layer normalisation with `name.weight`, and `name.bias` if there is one.
    ///
    /// # Errors
    /// As [`Tensors::matrix`].
    pub fn layer(tensors: &Tensors, name: &str, width: usize, epsilon: f32) -> Result<Self> {
        Ok(Self {
            weight: tensors.vector(&format!("{name}.weight"), width)?,
            bias: tensors.optional_vector(&format!("{name}.bias"), width)?,
            epsilon,
            centred: true,
        })
    }

    /// RMS normalisation with `name.weight`, to each of which `offset` is added.
    ///
    /// # Errors
    /// As [`Tensors::matrix`].
    pub fn rms(tensors: &Tensors, name: &str, width: usize, epsilon: f32, offset: f32) -> Result<Self> {
        let mut weight = tensors.vector(&format!("{name}.weight"), width)?;
        weight.iter_mut().for_each(|w| *w += offset);
        Ok(Self { weight, bias: None, epsilon, centred: false })
    }

    /// Normalises every `self.weight.len()` values of `x`: rows, or the heads of rows.
    pub fn apply(&self, x: &mut Rows) {
        let width = self.weight.len();
        for row in x.data.chunks_exact_mut(width) {
            let mean = match self.centred {
                true => row.iter().map(|&v| f64::from(v)).sum::<f64>() / width as f64,
                false => 0.0,
            };
            let squares: f64 = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum();
            let factor = (1.0 / (squares / width as f64 + f64::from(self.epsilon)).sqrt()) as f32;
            for (i, v) in row.iter_mut().enumerate() {
                let bias = self.bias.as_ref().map_or(0.0, |b| b[i]);
                *v = (*v - mean as f32) * factor * self.weight[i] + bias;
            }
        }
    }

    /// A normalised copy of `x`.
    pub fn of(&self, x: &Rows) -> Rows {
        let mut out = x.clone();
        self.apply(&mut out);
        out
    }
}
