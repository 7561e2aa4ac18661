//! From the block types of GGUF to one form: an unsigned code for each weight, and for each group of 16 or 32
//! weights a scale and, where the type has one, a minimum. Exact: nothing is rounded.
//!
//! Layouts: ggml's `ggml-common.h`.

use half::f16;

use crate::decoder::gguf::TensorType;

/// The form that a block type becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// Bits in which the largest code is stored: 4, 5, 6 or 8.
    pub bits: usize,
    /// Weights that share a scale: 16 or 32.
    pub group: usize,
    /// Weights that share the 16-bit float that scales are multiples of: 256, or 32 where it is the scale.
    pub span: usize,
    /// Without minimum, weight = scale · (code - offset).
    pub offset: u8,
    /// With minimum, weight = scale · code + minimum, and `offset` is 0.
    pub has_minimum: bool,
}

impl Format {
    /// The form of `kind`; `None` for the float types.
    pub fn of(kind: TensorType) -> Option<Self> {
        let (bits, group, span, offset) = match kind {
            TensorType::F32 | TensorType::F16 | TensorType::BF16 => return None,
            TensorType::Q4_0 => (4, 32, 32, 8),
            TensorType::Q5_0 => (5, 32, 32, 16),
            TensorType::Q8_0 => (8, 32, 32, 128),
            TensorType::Q4_1 => (4, 32, 32, 0),
            TensorType::Q5_1 => (5, 32, 32, 0),
            TensorType::Q2_K => (4, 16, 256, 0),
            TensorType::Q3_K => (4, 16, 256, 4),
            TensorType::Q4_K => (4, 32, 256, 0),
            TensorType::Q5_K => (5, 32, 256, 0),
            TensorType::Q6_K => (6, 16, 256, 32),
        };
        Some(Self { bits, group, span, offset, has_minimum: offset == 0 })
    }

    /// Whether scales are multiples of a float that several groups share.
    pub fn has_steps(self) -> bool {
        self.span > self.group
    }
}

/// Scales, or minimums, of a row: a 16-bit float for each span, and for each group the whole number that it is
/// multiplied with (none where a span is a group).
pub struct Factors {
    /// For each span.
    pub halves: Vec<f16>,
    /// For each group, if the format has steps.
    pub steps: Vec<i8>,
}

impl Factors {
    fn new(width: usize, format: Format, used: bool) -> Self {
        let count = |of: usize, used: bool| if used { width / of } else { 0 };
        Self {
            halves: vec![f16::ZERO; count(format.span, used)],
            steps: vec![0; count(format.group, used && format.has_steps())],
        }
    }

    /// The factor of a group.
    pub fn value(&self, format: Format, group: usize) -> f32 {
        let half = self.halves[group * format.group / format.span].to_f32();
        half * self.steps.get(group).map_or(1.0, |&step| f32::from(step))
    }
}

/// One row of weights.
pub struct Row {
    format: Format,
    /// A code for each weight.
    pub codes: Vec<u8>,
    /// The scale of each group.
    pub scales: Factors,
    /// The minimum of each group; empty where the format has none.
    pub minimums: Factors,
}

fn half_at(block: &[u8], at: usize) -> f16 {
    f16::from_le_bytes([block[at], block[at + 1]])
}

/// One block's part of a row.
struct Part<'a> {
    codes: &'a mut [u8],
    scales: &'a mut [i8],
    minimums: &'a mut [i8],
}

impl Row {
    /// Room for a row of `width` weights.
    pub fn new(width: usize, format: Format) -> Self {
        Self {
            format,
            codes: vec![0; width],
            scales: Factors::new(width, format, true),
            minimums: Factors::new(width, format, format.has_minimum),
        }
    }

    /// Unpacks the blocks of one row, whose format is that of this row.
    pub fn unpack(&mut self, kind: TensorType, bytes: &[u8]) {
        let (values, size) = kind.block();
        let steps = values / self.format.group;
        for (i, block) in bytes.chunks_exact(size).enumerate() {
            let (scale, minimum) = match kind {
                TensorType::F32 | TensorType::F16 | TensorType::BF16 => return,
                TensorType::Q4_0 | TensorType::Q5_0 | TensorType::Q8_0 => (half_at(block, 0), None),
                TensorType::Q4_1 | TensorType::Q5_1 => (half_at(block, 0), Some(half_at(block, 2))),
                TensorType::Q4_K | TensorType::Q5_K => (half_at(block, 0), Some(-half_at(block, 2))),
                TensorType::Q2_K => (half_at(block, 80), Some(-half_at(block, 82))),
                TensorType::Q3_K => (half_at(block, 108), None),
                TensorType::Q6_K => (half_at(block, 208), None),
            };
            self.scales.halves[i] = scale;
            if let Some(minimum) = minimum {
                self.minimums.halves[i] = minimum;
            }
            let range = |all: usize| if all > 0 { i * steps..(i + 1) * steps } else { 0..0 };
            let (scales, minimums) = (&mut self.scales.steps, &mut self.minimums.steps);
            let (scale_range, minimum_range) = (range(scales.len()), range(minimums.len()));
            let part = Part {
                codes: &mut self.codes[i * values..][..values],
                scales: &mut scales[scale_range],
                minimums: &mut minimums[minimum_range],
            };
            match kind {
                TensorType::F32 | TensorType::F16 | TensorType::BF16 => {}
                TensorType::Q4_0 => nibbles(&block[2..18], part.codes),
                TensorType::Q4_1 => nibbles(&block[4..20], part.codes),
                TensorType::Q5_0 => {
                    nibbles(&block[6..22], part.codes);
                    fifth_bits(&block[2..6], part.codes);
                }
                TensorType::Q5_1 => {
                    nibbles(&block[8..24], part.codes);
                    fifth_bits(&block[4..8], part.codes);
                }
                TensorType::Q8_0 => {
                    for (code, byte) in part.codes.iter_mut().zip(&block[2..34]) {
                        *code = byte ^ 0x80;
                    }
                }
                TensorType::Q2_K => q2_k(block, part),
                TensorType::Q3_K => q3_k(block, part),
                TensorType::Q4_K => q45_k(block, None, &block[16..144], part),
                TensorType::Q5_K => q45_k(block, Some(&block[16..48]), &block[48..176], part),
                TensorType::Q6_K => q6_k(block, part),
            }
        }
    }

    /// The weights themselves.
    pub fn weights(&self, out: &mut [f32]) {
        let format = self.format;
        let groups = self.codes.chunks_exact(format.group).zip(out.chunks_exact_mut(format.group));
        for (group, (codes, out)) in groups.enumerate() {
            let scale = self.scales.value(format, group);
            let base = if format.has_minimum { self.minimums.value(format, group) } else { 0.0 };
            for (out, &code) in out.iter_mut().zip(codes) {
                *out = scale * (f32::from(code) - f32::from(format.offset)) + base;
            }
        }
    }
}

/// Low halves of the bytes, then their high halves.
fn nibbles(bytes: &[u8], codes: &mut [u8]) {
    let (low, high) = codes.split_at_mut(bytes.len());
    for ((byte, low), high) in bytes.iter().zip(low).zip(high) {
        *low = byte & 15;
        *high = byte >> 4;
    }
}

fn fifth_bits(bits: &[u8], codes: &mut [u8]) {
    for (i, code) in codes.iter_mut().enumerate() {
        *code |= (bits[i / 8] >> (i % 8) & 1) << 4;
    }
}

fn q2_k(block: &[u8], part: Part<'_>) {
    for ((packed, scale), minimum) in block[..16].iter().zip(part.scales).zip(part.minimums) {
        *scale = (packed & 15).cast_signed();
        *minimum = (packed >> 4).cast_signed();
    }
    two_bits(&block[16..80], part.codes);
}

/// Each 32 bytes hold 128 codes: bits 0 and 1 the first 32, bits 2 and 3 the next, ...
fn two_bits(bytes: &[u8], codes: &mut [u8]) {
    for (bytes, codes) in bytes.chunks_exact(32).zip(codes.chunks_exact_mut(128)) {
        for (j, codes) in codes.chunks_exact_mut(32).enumerate() {
            for (code, byte) in codes.iter_mut().zip(bytes) {
                *code = byte >> (2 * j) & 3;
            }
        }
    }
}

fn q3_k(block: &[u8], part: Part<'_>) {
    let (high_bits, packed, codes) = (&block[..32], &block[96..108], part.codes);
    for (i, scale) in part.scales.iter_mut().enumerate() {
        let low = if i < 8 { packed[i] & 15 } else { packed[i - 8] >> 4 };
        let high = packed[8 + i % 4] >> (2 * (i / 4)) & 3;
        *scale = (low | high << 4).cast_signed() - 32;
    }
    two_bits(&block[32..96], codes);
    for (j, codes) in codes.chunks_exact_mut(32).enumerate() {
        for (code, bits) in codes.iter_mut().zip(high_bits) {
            *code |= (bits >> j & 1) << 2;
        }
    }
}

/// Q4_K, and Q5_K with its `fifth` bits.
fn q45_k(block: &[u8], fifth: Option<&[u8]>, low: &[u8], part: Part<'_>) {
    let (packed, codes) = (&block[4..16], part.codes);
    for j in 0..8 {
        let (scale, minimum) = if j < 4 {
            (packed[j] & 63, packed[j + 4] & 63)
        } else {
            (packed[j + 4] & 15 | (packed[j - 4] >> 6) << 4, packed[j + 4] >> 4 | (packed[j] >> 6) << 4)
        };
        part.scales[j] = scale.cast_signed();
        part.minimums[j] = minimum.cast_signed();
    }
    for (low, codes) in low.chunks_exact(32).zip(codes.chunks_exact_mut(64)) {
        nibbles(low, codes);
    }
    if let Some(bits) = fifth {
        for (j, codes) in codes.chunks_exact_mut(32).enumerate() {
            for (code, bits) in codes.iter_mut().zip(bits) {
                *code |= (bits >> j & 1) << 4;
            }
        }
    }
}

fn q6_k(block: &[u8], part: Part<'_>) {
    let (low, high, codes) = (&block[..128], &block[128..192], part.codes);
    for (scale, byte) in part.scales.iter_mut().zip(&block[192..208]) {
        *scale = byte.cast_signed();
    }
    for ((low, high), codes) in
        low.chunks_exact(64).zip(high.chunks_exact(32)).zip(codes.chunks_exact_mut(128))
    {
        for l in 0..32 {
            codes[l] = low[l] & 15 | (high[l] & 3) << 4;
            codes[l + 32] = low[l + 32] & 15 | (high[l] >> 2 & 3) << 4;
            codes[l + 64] = low[l] >> 4 | (high[l] >> 4 & 3) << 4;
            codes[l + 96] = low[l + 32] >> 4 | (high[l] >> 6) << 4;
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::{GgmlDType, ggml_file::qtensor_from_ggml};
    use candle_core::{DType, Device};

    use super::*;

    /// Random blocks whose 16-bit floats are small finite numbers.
    fn blocks(kind: TensorType, count: usize) -> Vec<u8> {
        let (_, size) = kind.block();
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        let mut bytes: Vec<u8> = (0..count * size)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect();
        let halves: &[usize] = match kind {
            TensorType::Q2_K => &[80, 82],
            TensorType::Q3_K => &[108],
            TensorType::Q6_K => &[208],
            TensorType::Q4_0 | TensorType::Q5_0 | TensorType::Q8_0 => &[0],
            _ => &[0, 2],
        };
        for block in bytes.chunks_exact_mut(size) {
            for &at in halves {
                let value = f16::from_f32(f32::from(block[at]) / 300.0 + 0.01);
                block[at..at + 2].copy_from_slice(&value.to_le_bytes());
            }
        }
        bytes
    }

    #[test]
    fn every_type_unpacks_to_the_weights_that_candle_reads() {
        for (kind, dtype) in [
            (TensorType::Q4_0, GgmlDType::Q4_0),
            (TensorType::Q4_1, GgmlDType::Q4_1),
            (TensorType::Q5_0, GgmlDType::Q5_0),
            (TensorType::Q5_1, GgmlDType::Q5_1),
            (TensorType::Q8_0, GgmlDType::Q8_0),
            (TensorType::Q2_K, GgmlDType::Q2K),
            (TensorType::Q3_K, GgmlDType::Q3K),
            (TensorType::Q4_K, GgmlDType::Q4K),
            (TensorType::Q5_K, GgmlDType::Q5K),
            (TensorType::Q6_K, GgmlDType::Q6K),
        ] {
            let (values, _) = kind.block();
            let width = 6 * values;
            let bytes = blocks(kind, 6);
            let oracle = qtensor_from_ggml(dtype, &bytes, vec![1, width], &Device::Cpu).unwrap();
            let oracle = oracle.dequantize(&Device::Cpu).unwrap().to_dtype(DType::F32).unwrap();
            let oracle = oracle.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let format = Format::of(kind).unwrap();
            let mut row = Row::new(width, format);
            row.unpack(kind, &bytes);
            assert!(row.codes.iter().all(|&c| u32::from(c) < 1 << format.bits), "{kind:?}");
            let mut weights = vec![0.0; width];
            row.weights(&mut weights);
            for i in 0..width {
                let close = (weights[i] - oracle[i]).abs() <= 1e-5 * oracle[i].abs().max(1.0);
                assert!(close, "{kind:?} {i}: {} {}", weights[i], oracle[i]);
            }
        }
    }
}
