//! Rotary positions (Su et al. 2021): pairs of values of a head are turned by an angle that grows with the position.

use super::Rows;

/// Frequencies, and which values make a pair.
#[derive(Debug, Clone)]
pub struct Rope {
    /// Radians for each position, of each pair.
    frequencies: Vec<f64>,
    /// Whether a pair are neighbours (GGUF files of the llama architecture) or half of the turned values apart.
    neighbours: bool,
    /// On the turned values: LongRoPE's and YaRN's temperature.
    factor: f32,
}

/// Llama 3's change of the frequencies for contexts longer than those of the first training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Llama3 {
    /// How much longer the context is.
    pub factor: f64,
    /// Waves longer than the first context over this are slowed down.
    pub low: f64,
    /// Waves shorter than the first context over this stay.
    pub high: f64,
    /// Tokens of the first context.
    pub context: f64,
}

impl Rope {
    /// Frequencies base^(-2i/turned) for the first `turned` values of a head; 0 for layers that know no positions.
    pub fn new(turned: usize, base: f64) -> Self {
        let frequencies = (0..turned / 2).map(|i| base.powf(-2.0 * i as f64 / turned as f64)).collect();
        Self { frequencies, neighbours: false, factor: 1.0 }
    }

    /// Number of pairs of a head that are turned.
    pub fn pairs(&self) -> usize {
        self.frequencies.len()
    }

    /// Pairs of neighbours instead of halves.
    pub fn neighbours(self) -> Self {
        Self { neighbours: true, ..self }
    }

    /// All frequencies over `factor`: linear scaling (Chen et al. 2023).
    pub fn slower(mut self, factor: f64) -> Self {
        self.frequencies.iter_mut().for_each(|f| *f /= factor);
        self
    }

    /// Each frequency over a factor of its own.
    pub fn divided(mut self, factors: &[f32]) -> Self {
        self.frequencies.iter_mut().zip(factors).for_each(|(f, &by)| *f /= f64::from(by));
        self
    }

    /// Turned values get longer by `factor`.
    pub fn longer(self, factor: f64) -> Self {
        Self { factor: factor as f32, ..self }
    }

    /// The frequencies of Llama 3.1 and later.
    pub fn llama3(mut self, scaling: Llama3) -> Self {
        let Llama3 { factor, low, high, context } = scaling;
        for f in &mut self.frequencies {
            let wave = 2.0 * std::f64::consts::PI / *f;
            if wave > context / low {
                *f /= factor;
            } else if wave >= context / high {
                let smooth = (context / wave - low) / (high - low);
                *f = (1.0 - smooth) * *f / factor + smooth * *f;
            }
        }
        self
    }

    /// Turns all heads of `rows`, of `head` values each; the first row stands at `position`.
    pub fn apply(&self, rows: &mut Rows, position: usize, head: usize) {
        let half = self.frequencies.len();
        let width = rows.width;
        for (row, position) in rows.data.chunks_exact_mut(width).zip(position..) {
            let turns: Vec<(f32, f32)> = self
                .frequencies
                .iter()
                .map(|f| {
                    // Angles in f32, as the origins compute them.
                    let (sin, cos) = f64::from((*f as f32) * position as f32).sin_cos();
                    (sin as f32 * self.factor, cos as f32 * self.factor)
                })
                .collect();
            for head in row.chunks_exact_mut(head) {
                for (i, (sin, cos)) in turns.iter().enumerate() {
                    let (a, b) = if self.neighbours { (2 * i, 2 * i + 1) } else { (i, i + half) };
                    (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[b] * cos + head[a] * sin);
                }
            }
        }
    }
}
