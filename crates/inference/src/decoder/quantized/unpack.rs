//! From the block types of GGUF to one form: an unsigned code for each weight, and for each group of 16 or 32
//! weights a scale and, where the type has one, a minimum. Exact: no weight is rounded.
//!
//! Layouts: ggml's `ggml-common.h`.

use half::f16;

use crate::decoder::gguf::TensorType;

/// The form that a block type becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// Weights that share a scale: 16 or 32.
    pub group: usize,
    /// Without minimum, weight = scale · (code - offset).
    pub offset: u8,
    /// With minimum, weight = scale · code + minimum, and `offset` is 0.
    pub has_minimum: bool,
    /// Largest code.
    pub largest: u8,
}

impl Format {
    /// The form of `kind`; `None` for the float types.
    pub fn of(kind: TensorType) -> Option<Self> {
        let plain = |group, offset, largest| Some(Self { group, offset, has_minimum: false, largest });
        let shifted = |group, largest| Some(Self { group, offset: 0, has_minimum: true, largest });
        match kind {
            TensorType::F32 | TensorType::F16 | TensorType::BF16 => None,
            TensorType::Q4_0 => plain(32, 8, 15),
            TensorType::Q5_0 => plain(32, 16, 31),
            TensorType::Q8_0 => plain(32, 128, 255),
            TensorType::Q3_K => plain(16, 4, 7),
            TensorType::Q6_K => plain(16, 32, 63),
            TensorType::Q4_1 | TensorType::Q4_K => shifted(32, 15),
            TensorType::Q5_1 | TensorType::Q5_K => shifted(32, 31),
            TensorType::Q2_K => shifted(16, 3),
        }
    }
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// One row of weights: codes, and the scale and minimum of each group.
pub struct Row {
    /// A code for each weight.
    pub codes: Vec<u8>,
    /// A scale for each group.
    pub scales: Vec<f32>,
    /// A minimum for each group; unused where the format has none.
    pub minimums: Vec<f32>,
}

impl Row {
    /// Room for a row of `width` weights.
    pub fn new(width: usize, format: Format) -> Self {
        let groups = width / format.group;
        Self { codes: vec![0; width], scales: vec![0.0; groups], minimums: vec![0.0; groups] }
    }

    /// Unpacks the blocks of one row, whose format is that of this row.
    pub fn unpack(&mut self, kind: TensorType, bytes: &[u8]) {
        let (values, size) = kind.block();
        let Some(format) = Format::of(kind) else { return };
        let groups = values / format.group;
        let codes = self.codes.chunks_exact_mut(values);
        let scales = self.scales.chunks_exact_mut(groups);
        let minimums = self.minimums.chunks_exact_mut(groups);
        for (((block, codes), scales), minimums) in
            bytes.chunks_exact(size).zip(codes).zip(scales).zip(minimums)
        {
            match kind {
                TensorType::F32 | TensorType::F16 | TensorType::BF16 => {}
                TensorType::Q4_0 => {
                    scales[0] = half_at(block, 0);
                    nibbles(&block[2..18], codes);
                }
                TensorType::Q4_1 => {
                    (scales[0], minimums[0]) = (half_at(block, 0), half_at(block, 2));
                    nibbles(&block[4..20], codes);
                }
                TensorType::Q5_0 => {
                    scales[0] = half_at(block, 0);
                    nibbles(&block[6..22], codes);
                    fifth_bits(&block[2..6], codes);
                }
                TensorType::Q5_1 => {
                    (scales[0], minimums[0]) = (half_at(block, 0), half_at(block, 2));
                    nibbles(&block[8..24], codes);
                    fifth_bits(&block[4..8], codes);
                }
                TensorType::Q8_0 => {
                    scales[0] = half_at(block, 0);
                    for (code, byte) in codes.iter_mut().zip(&block[2..34]) {
                        *code = byte ^ 0x80;
                    }
                }
                TensorType::Q2_K => q2_k(block, codes, scales, minimums),
                TensorType::Q3_K => q3_k(block, codes, scales),
                TensorType::Q4_K => q45_k(block, None, &block[16..144], codes, scales, minimums),
                TensorType::Q5_K => {
                    q45_k(block, Some(&block[16..48]), &block[48..176], codes, scales, minimums);
                }
                TensorType::Q6_K => q6_k(block, codes, scales),
            }
        }
    }

    /// The weights themselves.
    pub fn weights(&self, format: Format, out: &mut [f32]) {
        for (i, (out, &code)) in out.iter_mut().zip(&self.codes).enumerate() {
            let group = i / format.group;
            let base = if format.has_minimum { self.minimums[group] } else { 0.0 };
            *out = self.scales[group] * (f32::from(code) - f32::from(format.offset)) + base;
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

fn q2_k(block: &[u8], codes: &mut [u8], scales: &mut [f32], minimums: &mut [f32]) {
    let (d, d_min) = (half_at(block, 80), half_at(block, 82));
    for (i, packed) in block[..16].iter().enumerate() {
        scales[i] = d * f32::from(packed & 15);
        minimums[i] = -d_min * f32::from(packed >> 4);
    }
    two_bits(&block[16..80], codes);
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

fn q3_k(block: &[u8], codes: &mut [u8], scales: &mut [f32]) {
    let (high_bits, packed, d) = (&block[..32], &block[96..108], half_at(block, 108));
    for (i, scale) in scales.iter_mut().enumerate() {
        let low = if i < 8 { packed[i] & 15 } else { packed[i - 8] >> 4 };
        let high = packed[8 + i % 4] >> (2 * (i / 4)) & 3;
        *scale = d * (f32::from(low | high << 4) - 32.0);
    }
    two_bits(&block[32..96], codes);
    for (j, codes) in codes.chunks_exact_mut(32).enumerate() {
        for (code, bits) in codes.iter_mut().zip(high_bits) {
            *code |= (bits >> j & 1) << 2;
        }
    }
}

/// Q4_K, and Q5_K with its `fifth` bits.
fn q45_k(
    block: &[u8],
    fifth: Option<&[u8]>,
    low: &[u8],
    codes: &mut [u8],
    scales: &mut [f32],
    minimums: &mut [f32],
) {
    let (d, d_min, packed) = (half_at(block, 0), half_at(block, 2), &block[4..16]);
    for j in 0..8 {
        let (scale, minimum) = if j < 4 {
            (packed[j] & 63, packed[j + 4] & 63)
        } else {
            (packed[j + 4] & 15 | (packed[j - 4] >> 6) << 4, packed[j + 4] >> 4 | (packed[j] >> 6) << 4)
        };
        scales[j] = d * f32::from(scale);
        minimums[j] = -d_min * f32::from(minimum);
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

fn q6_k(block: &[u8], codes: &mut [u8], scales: &mut [f32]) {
    let (low, high, d) = (&block[..128], &block[128..192], half_at(block, 208));
    for (scale, byte) in scales.iter_mut().zip(&block[192..208]) {
        *scale = d * f32::from(i8::from_le_bytes([*byte]));
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
            assert!(row.codes.iter().all(|&c| c <= format.largest), "{kind:?}");
            let mut weights = vec![0.0; width];
            row.weights(format, &mut weights);
            for i in 0..width {
                let close = (weights[i] - oracle[i]).abs() <= 1e-5 * oracle[i].abs().max(1.0);
                assert!(close, "{kind:?} {i}: {} {}", weights[i], oracle[i]);
            }
        }
    }
}
