//! Keys and values of the positions read so far.

use half::bf16;

use super::lanes::{LANES, Lanes};
use crate::{Error, Result};

/// Positions are added in steps of this many.
pub const STEP: usize = 256;

/// Sixteen pairs of bfloat16 numbers, the first of each in the lower half: what one instruction multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub struct Pairs(pub [u32; LANES]);

impl Pairs {
    /// All zero.
    pub const ZERO: Self = Self([0; LANES]);

    /// The first and the second of each pair.
    fn widen(&self) -> [Lanes; 2] {
        [|word| word << 16, |word| word & 0xFFFF_0000]
            .map(|half: fn(u32) -> u32| Lanes(std::array::from_fn(|lane| f32::from_bits(half(self.0[lane])))))
    }
}

/// Numbers of the cache: 16-bit floats, or 32-bit ones for models whose weights are floats.
enum Cells {
    Half(Vec<Pairs>),
    Full(Vec<Lanes>),
}

impl Cells {
    fn bytes(&self, lines: usize) -> &[u8] {
        match self {
            Self::Half(all) => bytemuck::cast_slice(&all[..lines]),
            Self::Full(all) => bytemuck::cast_slice(&all[..lines]),
        }
    }

    fn bytes_mut(&mut self, lines: usize) -> &mut [u8] {
        match self {
            Self::Half(all) => bytemuck::cast_slice_mut(&mut all[..lines]),
            Self::Full(all) => bytemuck::cast_slice_mut(&mut all[..lines]),
        }
    }

    fn grow(&mut self, length: usize) -> Result<()> {
        let short = |_| Error::Internal("not enough memory for the prompt".to_owned());
        match self {
            Self::Half(all) => {
                all.try_reserve_exact(length.saturating_sub(all.len())).map_err(short)?;
                all.resize(length.max(all.len()), Pairs::ZERO);
            }
            Self::Full(all) => {
                all.try_reserve_exact(length.saturating_sub(all.len())).map_err(short)?;
                all.resize(length.max(all.len()), Lanes::ZERO);
            }
        }
        Ok(())
    }
}

/// Keys and values of one head in one layer. Pairs are two elements of a key, and two positions of values.
pub struct Head {
    /// `[position / 16][element][position % 16]`: scores of 16 positions are computed in lanes.
    keys: Cells,
    /// `[position][element]`, padded with zeros to whole lanes: outputs are summed in lanes.
    values: Cells,
    size: usize,
}

fn pair(first: f32, second: f32) -> u32 {
    let bits = |x| u32::from(bf16::from_f32(x).to_bits());
    bits(first) | bits(second) << 16
}

impl Head {
    /// Lines of sixteen positions: of the keys, and of the values.
    fn lines(&self) -> [usize; 2] {
        let columns = self.columns();
        match &self.keys {
            Cells::Half(_) => [self.size.div_ceil(2), LANES / 2 * columns],
            Cells::Full(_) => [self.size, LANES * columns],
        }
    }

    /// Lanes of a position's values.
    fn columns(&self) -> usize {
        self.size.div_ceil(LANES)
    }

    /// Stores key and value of `position`.
    pub fn write(&mut self, position: usize, key: &[f32], value: &[f32]) {
        let ([each, _], columns) = (self.lines(), self.columns());
        let (panel, lane) = (position / LANES * each, position % LANES);
        match &mut self.keys {
            Cells::Half(keys) => {
                for (line, key) in keys[panel..panel + each].iter_mut().zip(key.chunks(2)) {
                    line.0[lane] = pair(key[0], key.get(1).copied().unwrap_or(0.0));
                }
            }
            Cells::Full(keys) => {
                keys[panel..panel + each].iter_mut().zip(key).for_each(|(line, &key)| line.0[lane] = key);
            }
        }
        match &mut self.values {
            Cells::Half(values) => {
                let lines = &mut values[position / 2 * columns..][..columns];
                for (line, value) in lines.iter_mut().zip(value.chunks(LANES)) {
                    for (cell, &value) in line.0.iter_mut().zip(value) {
                        // The place behind is cleared, so that nothing of another text is ever read there.
                        *cell = if position.is_multiple_of(2) {
                            pair(value, 0.0)
                        } else {
                            *cell & 0xFFFF | pair(0.0, value)
                        };
                    }
                }
            }
            Cells::Full(values) => {
                let lines = &mut values[position * columns..][..columns];
                for (line, value) in lines.iter_mut().zip(value.chunks(LANES)) {
                    line.0[..value.len()].copy_from_slice(value);
                }
            }
        }
    }

    /// Keys of 16 positions for each of the panels that `out` has room for, from `position` on.
    pub fn keys(&self, position: usize, out: &mut [Lanes]) {
        let first = position / LANES * self.lines()[0];
        match &self.keys {
            Cells::Half(keys) => {
                for (i, panel) in out.chunks_exact_mut(self.size).enumerate() {
                    let keys = &keys[first + i * self.size.div_ceil(2)..];
                    for (key, out) in keys.iter().zip(panel.chunks_mut(2)) {
                        out.copy_from_slice(&key.widen()[..out.len()]);
                    }
                }
            }
            Cells::Full(keys) => out.copy_from_slice(&keys[first..][..out.len()]),
        }
    }

    /// Values of as many positions as `out` has room for, an even number, from `position` on.
    pub fn values(&self, position: usize, out: &mut [Lanes]) {
        let columns = self.columns();
        match &self.values {
            Cells::Half(values) => {
                let values = values[position / 2 * columns..].chunks_exact(columns);
                for (values, out) in values.zip(out.chunks_exact_mut(2 * columns)) {
                    let (first, second) = out.split_at_mut(columns);
                    for ((value, first), second) in values.iter().zip(first).zip(second) {
                        [*first, *second] = value.widen();
                    }
                }
            }
            Cells::Full(values) => out.copy_from_slice(&values[position * columns..][..out.len()]),
        }
    }

    /// Keys and values as pairs: a key's are `[position / 16][element / 2]`, values' `[position / 2][element / 16]`.
    /// None in a cache of 32-bit floats.
    #[cfg(target_arch = "x86_64")]
    pub fn pairs(&self) -> Option<[&[Pairs]; 2]> {
        match (&self.keys, &self.values) {
            (Cells::Half(keys), Cells::Half(values)) => Some([keys, values]),
            _ => None,
        }
    }
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
        self.bytes_of(positions.next_multiple_of(STEP))
    }

    /// Bytes of keys and values of just so many positions.
    pub fn bytes_of(&self, positions: usize) -> usize {
        let lines: usize = self.layers.iter().flatten().map(|head| head.lines().iter().sum::<usize>()).sum();
        positions.saturating_mul(lines * size_of::<Lanes>() / LANES)
    }

    /// Keys and values of the first `positions` positions, a multiple of sixteen that there is room for.
    pub fn save(&self, positions: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes_of(positions));
        for head in self.layers.iter().flatten() {
            let [keys, values] = head.lines().map(|lines| positions / LANES * lines);
            out.extend_from_slice(head.keys.bytes(keys));
            out.extend_from_slice(head.values.bytes(values));
        }
        out
    }

    /// Puts back what [`Cache::save`] gave: [`Cache::bytes_of`] as many positions.
    ///
    /// # Errors
    /// `Internal` when memory is short, or `saved` has another length.
    pub fn restore(&mut self, positions: usize, mut saved: &[u8]) -> Result<()> {
        self.reserve(positions)?;
        for head in self.layers.iter_mut().flatten() {
            let [keys, values] = head.lines().map(|lines| positions / LANES * lines);
            for cells in [head.keys.bytes_mut(keys), head.values.bytes_mut(values)] {
                let part = saved.split_off(..cells.len());
                cells.copy_from_slice(part.ok_or_else(|| Error::Internal("kept keys are cut".to_owned()))?);
            }
        }
        Ok(())
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
            let [keys, values] = head.lines().map(|lines| positions / LANES * lines);
            head.keys.grow(keys)?;
            head.values.grow(values)?;
        }
        self.positions = positions;
        Ok(())
    }

    /// The heads of each layer.
    pub fn layers(&mut self) -> impl Iterator<Item = &mut [Head]> {
        self.layers.iter_mut().map(Vec::as_mut_slice)
    }

    /// Bytes in memory.
    pub fn memory(&self) -> usize {
        self.bytes_for(self.positions)
    }
}
