//! Keys and values of the positions read so far.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::lanes::{LANES, Lanes};
use crate::{Error, Result};

/// Positions are added in steps of this many.
pub const STEP: usize = 256;

/// Numbers of the cache: 16-bit floats, or 32-bit ones for models whose weights are floats.
enum Cells {
    Half(Vec<f16>),
    Full(Vec<f32>),
}

impl Cells {
    fn grow(&mut self, length: usize) -> Result<()> {
        let short = |_| Error::Internal("not enough memory for the prompt".to_owned());
        match self {
            Self::Half(all) => {
                all.try_reserve_exact(length.saturating_sub(all.len())).map_err(short)?;
                all.resize(length.max(all.len()), f16::ZERO);
            }
            Self::Full(all) => {
                all.try_reserve_exact(length.saturating_sub(all.len())).map_err(short)?;
                all.resize(length.max(all.len()), 0.0);
            }
        }
        Ok(())
    }

    fn read(&self, at: usize, out: &mut [f32]) {
        match self {
            Self::Half(all) => all[at..at + out.len()].convert_to_f32_slice(out),
            Self::Full(all) => out.copy_from_slice(&all[at..at + out.len()]),
        }
    }

    fn write(&mut self, at: usize, value: f32) {
        match self {
            Self::Half(all) => all[at] = f16::from_f32(value),
            Self::Full(all) => all[at] = value,
        }
    }

    /// Bytes of a number.
    fn size(&self) -> usize {
        match self {
            Self::Half(_) => size_of::<f16>(),
            Self::Full(_) => size_of::<f32>(),
        }
    }
}

/// Keys and values of one head in one layer.
pub struct Head {
    /// `[position / 16][element][position % 16]`: scores of 16 positions are computed in lanes.
    keys: Cells,
    /// `[position][element]`, padded with zeros to whole lanes: outputs are summed in lanes.
    values: Cells,
    size: usize,
}

impl Head {
    fn bytes_of_position(&self) -> usize {
        self.keys.size() * self.size + self.values.size() * self.padded()
    }

    fn padded(&self) -> usize {
        self.size.next_multiple_of(LANES)
    }

    /// Stores key and value of `position`.
    pub fn write(&mut self, position: usize, key: &[f32], value: &[f32]) {
        let panel = position / LANES * self.size;
        for (i, &x) in key.iter().enumerate() {
            self.keys.write((panel + i) * LANES + position % LANES, x);
        }
        let start = position * self.padded();
        for (i, &x) in value.iter().enumerate() {
            self.values.write(start + i, x);
        }
    }

    /// Keys of 16 positions for each of the panels that `out` has room for, from `position` on.
    pub fn keys(&self, position: usize, out: &mut [Lanes]) {
        self.keys.read(position / LANES * self.size * LANES, flat(out));
    }

    /// Values of as many positions as `out` has room for, from `position` on.
    pub fn values(&self, position: usize, out: &mut [Lanes]) {
        self.values.read(position * self.padded(), flat(out));
    }
}

fn flat(lanes: &mut [Lanes]) -> &mut [f32] {
    bytemuck::cast_slice_mut(lanes)
}

/// Keys and values of all layers.
pub struct Cache {
    layers: Vec<Vec<Head>>,
    positions: usize,
}

impl Cache {
    /// An empty cache for `layers` layers of `heads` heads of `size` elements.
    pub fn new(layers: usize, heads: usize, size: usize, full: bool) -> Self {
        let cells = || if full { Cells::Full(Vec::new()) } else { Cells::Half(Vec::new()) };
        let head = || Head { keys: cells(), values: cells(), size };
        let layer = || (0..heads).map(|_| head()).collect();
        Self { layers: (0..layers).map(|_| layer()).collect(), positions: 0 }
    }

    /// Bytes that `positions` positions take.
    pub fn bytes_for(&self, positions: usize) -> usize {
        let each: usize = self.layers.iter().flatten().map(Head::bytes_of_position).sum();
        positions.next_multiple_of(STEP).saturating_mul(each)
    }

    /// Makes room for `positions` positions.
    ///
    /// # Errors
    /// `Internal` when memory is short.
    pub fn reserve(&mut self, positions: usize) -> Result<()> {
        if positions <= self.positions {
            return Ok(());
        }
        let positions = positions.next_multiple_of(STEP);
        for head in self.layers.iter_mut().flatten() {
            head.keys.grow(positions * head.size)?;
            head.values.grow(positions * head.padded())?;
        }
        self.positions = positions;
        Ok(())
    }

    /// The heads of layer `layer`.
    pub fn layer(&mut self, layer: usize) -> &mut [Head] {
        &mut self.layers[layer]
    }

    /// Bytes in memory.
    pub fn memory(&self) -> usize {
        self.bytes_for(self.positions)
    }
}
