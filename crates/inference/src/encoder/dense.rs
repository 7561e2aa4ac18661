//! Dense layers: a matrix product with weights that were packed once.

use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_tensor::NdTensorView;

use crate::{Error, Result};

/// Weights of y = x·Wᵀ + b, packed for the kernel that this processor gets.
pub struct Dense {
    weight: PackedBMatrix<f32>,
    /// b, as long as a row of y. [`Dense::apply`] leaves adding it to the step that reads y next.
    pub bias: Vec<f32>,
}

impl Dense {
    /// Packs `weight`, `bias.len()` rows of `inputs`, as stored by PyTorch.
    ///
    /// # Errors
    /// [`Error::Internal`] when the lengths do not fit together.
    pub fn new(weight: &[f32], bias: Vec<f32>, inputs: usize) -> Result<Self> {
        let view = NdTensorView::try_from_data([bias.len(), inputs], weight);
        let view = view.map_err(|e| Error::Internal(format!("dense layer: {e}")))?;
        Ok(Self { weight: GemmExecutor::<f32>::new().prepack_b(view.transposed()), bias })
    }

    /// Elements of a row of y.
    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Bytes of the packed weights.
    pub fn memory(&self) -> usize {
        (self.weight.rows() * self.weight.cols() + self.bias.len()) * size_of::<f32>()
    }

    /// y = x·Wᵀ for all rows of `x`. Inside a pool its threads share the work.
    ///
    /// # Errors
    /// [`Error::Internal`] when the lengths do not fit together.
    pub fn apply(&self, x: &[f32], y: &mut [f32]) -> Result<()> {
        let inputs = self.weight.rows();
        let x = NdTensorView::try_from_data([x.len() / inputs.max(1), inputs], x);
        let x = x.map_err(|e| Error::Internal(format!("matrix product: {e}")))?;
        GemmExecutor::<f32>::new()
            .gemm(y, GemmInputA::Unpacked(x), GemmInputB::Packed(&self.weight), GemmOptions::default())
            .map_err(|e| Error::Internal(format!("matrix product: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_oracle() {
        for (rows, inputs, outputs) in [(1, 1, 1), (1, 7, 5), (12, 48, 96), (65, 300, 33), (130, 384, 384)] {
            let value = |i: usize, m: usize| ((i * 7919) % m) as f32 / m as f32 - 0.5;
            let weight: Vec<f32> = (0..inputs * outputs).map(|i| value(i, 1009)).collect();
            let x: Vec<f32> = (0..rows * inputs).map(|i| value(i, 613)).collect();
            let dense = Dense::new(&weight, vec![0.0; outputs], inputs).unwrap();
            let mut y = vec![f32::NAN; rows * outputs];
            dense.apply(&x, &mut y).unwrap();
            for (i, y) in y.into_iter().enumerate() {
                let (row, column) = (i / outputs, i % outputs);
                let want: f64 = (0..inputs)
                    .map(|k| f64::from(x[row * inputs + k]) * f64::from(weight[column * inputs + k]))
                    .sum();
                assert!((f64::from(y) - want).abs() < 1e-4, "{rows}×{inputs}×{outputs}: {y} for {want}");
            }
        }
    }

    #[test]
    fn wrong_lengths_are_errors() {
        assert!(Dense::new(&[0.0; 5], vec![0.0; 2], 3).is_err());
        let dense = Dense::new(&[0.0; 6], vec![0.0; 2], 3).unwrap();
        assert!(dense.apply(&[0.0; 3], &mut [0.0; 3]).is_err());
        assert!(dense.apply(&[0.0; 4], &mut [0.0; 2]).is_err());
    }
}
