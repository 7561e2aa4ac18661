//! Keys and values of the tokens that a decoder has read.

use super::Rows;

/// Keys and values of each layer.
#[derive(Debug, Clone, Default)]
pub struct KeyValues {
    layers: Vec<(Rows, Rows)>,
    tokens: usize,
}

impl KeyValues {
    /// For a network of `layers` layers that has read nothing.
    pub fn new(layers: usize) -> Self {
        Self { layers: vec![(Rows::default(), Rows::default()); layers], tokens: 0 }
    }

    /// Tokens read.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Adds rows to those of layer `i`, and gives all that it has.
    pub fn extend(&mut self, i: usize, keys: &Rows, values: &Rows) -> (&Rows, &Rows) {
        let (old_keys, old_values) = &mut self.layers[i];
        for (old, new) in [(&mut *old_keys, keys), (&mut *old_values, values)] {
            old.width = new.width;
            old.data.extend_from_slice(&new.data);
        }
        (old_keys, old_values)
    }

    /// `count` more tokens have been read by all layers.
    pub fn advance(&mut self, count: usize) {
        self.tokens += count;
    }

    /// Forgets all but the first `tokens`, also what a pass that was stopped left behind.
    pub fn truncate(&mut self, tokens: usize) {
        self.tokens = self.tokens.min(tokens);
        for rows in self.layers.iter_mut().flat_map(|(keys, values)| [keys, values]) {
            rows.data.truncate(self.tokens * rows.width);
        }
    }

    /// Bytes of the rows.
    pub fn memory(&self) -> usize {
        let rows = self.layers.iter().flat_map(|(keys, values)| [keys, values]);
        rows.map(|rows| rows.data.capacity() * size_of::<f32>()).sum()
    }
}
