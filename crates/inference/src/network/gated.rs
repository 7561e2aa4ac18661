//! The gated feed-forward part (Shazeer 2020).

use super::{Activation, Linear, Rows, Run};
use crate::Result;

/// Three layers: down(activation(gate(x)) · up(x)).
pub struct Gated {
    /// What decides how much of `up` passes.
    pub gate: Linear,
    /// Into the part.
    pub up: Linear,
    /// Out of it.
    pub down: Linear,
}

impl Gated {
    /// A row for each row of `x`.
    ///
    /// # Errors
    /// As [`Linear::apply`].
    pub fn apply(&self, activation: Activation, x: &Rows, run: &mut Run<'_>) -> Result<Rows> {
        let mut wide = self.gate.apply(x, run)?;
        activation.apply(run.isa, &mut wide);
        wide.multiply(&self.up.apply(x, run)?);
        self.down.apply(&wide, run)
    }
}
