//! The loops that take the time, chosen at run time for the processor.
//!
//! Most are plain Rust, compiled once for each instruction set; the score of one-bit codes needs byte shuffles,
//! which only intrinsics give.

use std::sync::OnceLock;

mod generic;
#[cfg(target_arch = "x86_64")]
mod x86;

/// Codes that are scored together, and lie side by side.
pub const LANES: usize = 16;

/// For each 8 dimensions of a query two tables of 16 bytes: contribution of the 16 patterns of the signs of the
/// first four dimensions, and of the last four.
#[derive(Debug, Clone, Copy)]
pub struct Tables<'a> {
    /// Tables of the low halves of the bytes of a code, one after the other.
    pub low: &'a [u8],
    /// Tables of the high halves.
    pub high: &'a [u8],
}

/// What turns sums of table entries into estimated distances: `base + add - scale * (sum * step - bias)`.
#[derive(Debug, Clone, Copy)]
pub struct Factors<'a> {
    /// Of a query.
    pub step: f32,
    /// Of a query.
    pub bias: f32,
    /// Of a list.
    pub base: f32,
    /// For each code a little-endian number.
    pub adds: &'a [u8; 4 * LANES],
    /// The same.
    pub scales: &'a [u8; 4 * LANES],
}

/// Kernels of one instruction set. Who holds a reference to one runs on a processor that has the instructions.
#[derive(Debug)]
pub struct KernelSet {
    /// Name of the instruction set.
    pub name: &'static str,
    hadamard: unsafe fn(&mut [f32]),
    dot_bytes: unsafe fn(&[f32], &[i8]) -> f32,
    dot_nibbles: unsafe fn(&[f32], &[u8]) -> f32,
    score: unsafe fn(&[u8], Tables<'_>, &mut [u32; LANES]),
    estimate: unsafe fn(&[u32; LANES], Factors<'_>, u16, &mut [f32; LANES]) -> u16,
    within: unsafe fn(&[u8], i64, i64, &mut [u16]),
}

static PORTABLE: KernelSet = KernelSet {
    name: "portable",
    hadamard: generic::hadamard,
    dot_bytes: generic::dot_bytes,
    dot_nibbles: generic::dot_nibbles,
    score: generic::score,
    estimate: generic::estimate,
    within: generic::within,
};

impl KernelSet {
    /// All kernels that this processor can run, the best first.
    pub fn available() -> Vec<&'static Self> {
        #[allow(unused_mut, reason = "not on every architecture there is more than the portable one")]
        let mut sets = vec![&PORTABLE];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2 {
                sets.insert(0, &x86::AVX2);
            }
            if avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
            {
                sets.insert(0, &x86::AVX512);
            }
        }
        sets
    }

    /// See [`hadamard`].
    pub fn hadamard(&'static self, x: &mut [f32]) {
        // SAFETY: the processor has the instructions, or there would be no reference to this set.
        unsafe { (self.hadamard)(x) }
    }

    /// See [`dot_bytes`].
    pub fn dot_bytes(&'static self, q: &[f32], code: &[i8]) -> f32 {
        // SAFETY: as above.
        unsafe { (self.dot_bytes)(q, code) }
    }

    /// See [`dot_nibbles`].
    pub fn dot_nibbles(&'static self, q: &[f32], code: &[u8]) -> f32 {
        // SAFETY: as above.
        unsafe { (self.dot_nibbles)(q, code) }
    }

    /// See [`score`].
    pub fn score(&'static self, codes: &[u8], tables: Tables<'_>, sums: &mut [u32; LANES]) {
        assert!(codes.len() == tables.low.len() && codes.len() == tables.high.len());
        assert!(codes.len().is_multiple_of(LANES * 8) && codes.len() <= LANES * MOST_BYTES);
        // SAFETY: as above.
        unsafe { (self.score)(codes, tables, sums) }
    }

    /// See [`estimate`].
    pub fn estimate(
        &'static self,
        sums: &[u32; LANES],
        factors: Factors<'_>,
        mask: u16,
        estimates: &mut [f32; LANES],
    ) -> u16 {
        // SAFETY: as above.
        unsafe { (self.estimate)(sums, factors, mask, estimates) }
    }

    /// See [`within`].
    pub fn within(&'static self, keys: &[u8], least: i64, most: i64, masks: &mut [u16]) {
        // SAFETY: as above.
        unsafe { (self.within)(keys, least, most, masks) }
    }
}

/// Most bytes of a one-bit code: more would overflow the 16-bit sums of the kernels.
pub const MOST_BYTES: usize = 224;

#[inline]
fn best() -> &'static KernelSet {
    static BEST: OnceLock<&'static KernelSet> = OnceLock::new();
    BEST.get_or_init(|| KernelSet::available()[0])
}

/// Hadamard transform in place, not scaled. The length is a power of two.
#[inline]
pub fn hadamard(x: &mut [f32]) {
    best().hadamard(x);
}

/// Sum of the products; the lengths are equal and a multiple of 64.
#[inline]
pub fn dot_bytes(q: &[f32], code: &[i8]) -> f32 {
    best().dot_bytes(q, code)
}

/// Sum of the products with numbers from −8 to 7, stored with 8 added as the low (first half of the dimensions) and
/// high (second half) four bits of the bytes.
#[inline]
pub fn dot_nibbles(q: &[f32], code: &[u8]) -> f32 {
    best().dot_nibbles(q, code)
}

/// For each of 16 codes, the sum of the table entries that its bytes select. Byte j of code i is `codes[16 * j + i]`;
/// the number of bytes is a multiple of 8, [`MOST_BYTES`] at most.
#[inline]
pub fn score(codes: &[u8], tables: Tables<'_>, sums: &mut [u32; LANES]) {
    best().score(codes, tables, sums);
}

/// Turns the sums of 16 codes into estimated distances. Those without a bit in the mask get NaN. Returns the bits of those
/// that are numbers.
#[inline]
pub fn estimate(sums: &[u32; LANES], factors: Factors<'_>, mask: u16, estimates: &mut [f32; LANES]) -> u16 {
    best().estimate(sums, factors, mask, estimates)
}

/// Of each group of 16 little-endian numbers clears the bits of those that are not from `least` to `most`, which are
/// in this order.
#[inline]
pub fn within(keys: &[u8], least: i64, most: i64, masks: &mut [u16]) {
    best().within(keys, least, most, masks);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotation::splitmix;

    #[test]
    fn all_sets_agree_with_the_definitions() {
        let mut state = 1;
        let mut byte = move || (splitmix(&mut state) >> 24) as u8;
        for set in KernelSet::available() {
            for width in [64, 128, 320, 384, 1536, 1792] {
                let q: Vec<f32> = (0..width).map(|_| f32::from(byte()) / 128.0 - 1.0).collect();
                let code: Vec<i8> = (0..width).map(|_| byte() as i8).collect();
                let want: f64 = q.iter().zip(&code).map(|(q, c)| f64::from(*q) * f64::from(*c)).sum();
                assert!((f64::from(set.dot_bytes(&q, &code)) - want).abs() < 0.05, "{} {width}", set.name);

                let nibbles: Vec<u8> = (0..width / 2).map(|_| byte()).collect();
                let number = |i: usize| {
                    let byte = nibbles[i % (width / 2)];
                    f64::from(if i < width / 2 { byte & 15 } else { byte >> 4 }) - 8.0
                };
                let want: f64 = (0..width).map(|i| f64::from(q[i]) * number(i)).sum();
                assert!(
                    (f64::from(set.dot_nibbles(&q, &nibbles)) - want).abs() < 0.01,
                    "{} {width}",
                    set.name
                );

                let codes: Vec<u8> = (0..width * 2).map(|_| byte()).collect();
                // The largest entries, so that a sum that overflows is seen.
                for most in [false, true] {
                    let mut table =
                        || -> Vec<u8> { (0..width * 2).map(|_| if most { 255 } else { byte() }).collect() };
                    let (low, high) = (table(), table());
                    let mut sums = [0; LANES];
                    set.score(&codes, Tables { low: &low, high: &high }, &mut sums);
                    for (i, sum) in sums.into_iter().enumerate() {
                        let want: u32 = (0..width / 8)
                            .map(|j| {
                                let byte = codes[16 * j + i];
                                u32::from(low[16 * j + usize::from(byte & 15)])
                                    + u32::from(high[16 * j + usize::from(byte >> 4)])
                            })
                            .sum();
                        assert_eq!(sum, want, "{} {width} code {i}", set.name);
                    }
                }
            }
            let (mut adds, mut scales) = ([0; 4 * LANES], [0; 4 * LANES]);
            for i in 0..LANES {
                let add = if i == 5 { f32::NAN } else { i as f32 };
                adds[4 * i..][..4].copy_from_slice(&add.to_le_bytes());
                scales[4 * i..][..4].copy_from_slice(&(0.5 * i as f32).to_le_bytes());
            }
            let factors = Factors { step: 0.25, bias: 3.0, base: 7.0, adds: &adds, scales: &scales };
            let (sums, mut estimates) = (std::array::from_fn(|i| 8 * i as u32), [0.0; LANES]);
            assert_eq!(set.estimate(&sums, factors, 0x7fff, &mut estimates), 0x7fdf, "{}", set.name);
            for (i, estimate) in estimates.into_iter().enumerate() {
                let x = i as f32;
                let want = 7.0 + x - 0.5 * x * (2.0 * x - 3.0);
                assert!(
                    if i == 5 || i == 15 { estimate.is_nan() } else { estimate == want },
                    "{} {i}",
                    set.name
                );
            }
            let numbers: Vec<i64> =
                (0..64).map(|i| [i64::MIN, i64::MAX, 0, i - 30][i as usize % 4]).collect();
            let keys: Vec<u8> = numbers.iter().flat_map(|key| key.to_le_bytes()).collect();
            for (least, most) in [(0, 0), (i64::MIN, -1), (-5, i64::MAX), (i64::MIN, i64::MAX)] {
                let mut masks = [u16::MAX, u16::MAX, 0, 0x00ff];
                set.within(&keys, least, most, &mut masks);
                for (i, key) in numbers.iter().enumerate() {
                    let asked = [u16::MAX, u16::MAX, 0, 0x00ff][i / 16] >> (i % 16) & 1 == 1;
                    let want = asked && (least..=most).contains(key);
                    assert_eq!(masks[i / 16] >> (i % 16) & 1 == 1, want, "{} {i}", set.name);
                }
            }
            let mut x = vec![0.0; 256];
            x[3] = 1.0;
            set.hadamard(&mut x);
            for (i, x) in x.into_iter().enumerate() {
                let sign = if (i & 3).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
                assert_eq!(x, sign, "{} {i}", set.name);
            }
        }
    }
}
