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

/// One-bit codes in groups of 16, with their factors as little-endian upper halves of numbers of single precision.
#[derive(Debug, Clone, Copy)]
pub struct Groups<'a> {
    /// Byte j of code i of a group is its byte `16 * j + i`.
    pub codes: &'a [u8],
    /// For each code a number.
    pub adds: &'a [u8],
    /// The same.
    pub scales: &'a [u8],
}

/// What turns codes into estimated distances: `base + add - scale * (sum * step - bias)`, where the sum is that of the table
/// entries that the bytes of a code select.
#[derive(Debug, Clone, Copy)]
pub struct Scale<'a> {
    /// Of a query.
    pub tables: Tables<'a>,
    /// Of a query.
    pub step: f32,
    /// Of a query.
    pub bias: f32,
    /// Of a list.
    pub base: f32,
}

/// Kernels of one instruction set. Who holds a reference to one runs on a processor that has the instructions.
#[derive(Debug)]
pub struct KernelSet {
    /// Name of the instruction set.
    pub name: &'static str,
    hadamard: unsafe fn(&mut [f32]),
    dot_bytes: unsafe fn(&[f32], &[i8]) -> f32,
    dot_nibbles: unsafe fn(&[f32], &[u8]) -> f32,
    squared_bytes: unsafe fn(&[i8]) -> u32,
    quantize: unsafe fn(&[f32], f32, f32, &mut [i8]),
    tables: unsafe fn(&[f32], f32, &mut [u8], &mut [u8]),
    score: unsafe fn(Groups<'_>, Scale<'_>, &[u16], &mut [f32]) -> usize,
    within: unsafe fn(&[u8], i64, i64, &mut [u16]),
}

static PORTABLE: KernelSet = KernelSet {
    name: "portable",
    hadamard: generic::hadamard,
    dot_bytes: generic::dot_bytes,
    dot_nibbles: generic::dot_nibbles,
    squared_bytes: generic::squared_bytes,
    quantize: generic::quantize,
    tables: generic::tables,
    score: |groups, scale, masks, estimates| generic::score(groups, scale, masks, estimates, generic::sums),
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

    /// See [`squared_bytes`].
    pub fn squared_bytes(&'static self, code: &[i8]) -> u32 {
        // SAFETY: as above.
        unsafe { (self.squared_bytes)(code) }
    }

    /// See [`quantize`].
    pub fn quantize(&'static self, x: &[f32], factor: f32, most: f32, out: &mut [i8]) {
        // SAFETY: as above.
        unsafe { (self.quantize)(x, factor, most, out) }
    }

    /// See [`tables`].
    pub fn tables(&'static self, query: &[f32], factor: f32, low: &mut [u8], high: &mut [u8]) {
        // SAFETY: as above.
        unsafe { (self.tables)(query, factor, low, high) }
    }

    /// See [`score`].
    pub fn score(
        &'static self,
        groups: Groups<'_>,
        scale: Scale<'_>,
        masks: &[u16],
        estimates: &mut [f32],
    ) -> usize {
        let Tables { low, high } = scale.tables;
        assert!(low.len() == high.len() && low.len().is_multiple_of(LANES * 8));
        assert!((1..=LANES * MOST_BYTES).contains(&low.len()));
        assert!(estimates.len() == LANES * masks.len() && groups.codes.len() >= low.len() * masks.len());
        assert!(groups.adds.len().min(groups.scales.len()) >= 2 * LANES * masks.len());
        // SAFETY: as above.
        unsafe { (self.score)(groups, scale, masks, estimates) }
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

/// Sum of the squares; the length is a multiple of 64.
#[inline]
pub fn squared_bytes(code: &[i8]) -> u32 {
    best().squared_bytes(code)
}

/// Rounds numbers times a factor to whole ones, the even one of two that are as near, from `-most` to `most`, which is 127 at
/// most.
#[inline]
pub fn quantize(x: &[f32], factor: f32, most: f32, out: &mut [i8]) {
    best().quantize(x, factor, most, out);
}

/// The tables of a query, of 8 dimensions after the other: what each pattern of signs of four dimensions makes of their sum, plus
/// the sum of their absolute values, times a factor.
#[inline]
pub fn tables(query: &[f32], factor: f32, low: &mut [u8], high: &mut [u8]) {
    best().tables(query, factor, low, high);
}

/// Estimates the distances of those codes of some groups that the masks have a bit for; the others get NaN. Returns how many
/// are numbers. The bytes of a code are a multiple of 8, [`MOST_BYTES`] at most.
#[inline]
pub fn score(groups: Groups<'_>, scale: Scale<'_>, masks: &[u16], estimates: &mut [f32]) -> usize {
    best().score(groups, scale, masks, estimates)
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

                let want: u32 = code.iter().map(|c| u32::from(c.unsigned_abs()).pow(2)).sum();
                assert_eq!(set.squared_bytes(&code), want, "{} {width}", set.name);
                let mut numbers = vec![0; width];
                set.quantize(&q, 130.0, 127.0, &mut numbers);
                let rounded = |q: &f32| (q * 130.0).round_ties_even().clamp(-127.0, 127.0) as i8;
                assert!(numbers.iter().eq(&q.iter().map(rounded).collect::<Vec<_>>()), "{}", set.name);

                let (mut low, mut high) = (vec![0; 2 * width], vec![0; 2 * width]);
                set.tables(&q, 31.5, &mut low, &mut high);
                for (i, four) in q.as_chunks::<4>().0.iter().enumerate() {
                    let table = &[&low, &high][i % 2][i / 2 * 16..][..16];
                    for (pattern, entry) in table.iter().enumerate() {
                        let sign = |bit: usize| if pattern >> bit & 1 == 1 { four[bit] } else { -four[bit] };
                        let sum: f32 = (0..4).map(|bit| sign(bit) + four[bit].abs()).sum();
                        assert!((31.5 * sum - f32::from(*entry)).abs() < 0.501, "{} {i} {pattern}", set.name);
                    }
                }

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

                // Three groups, of which the second has nothing to score; one code has no number.
                let codes: Vec<u8> = (0..3 * width * 2).map(|_| byte()).collect();
                let masks = [u16::MAX, 0, 0x7ffb];
                let add = |i: usize| if i == 5 { f32::NAN } else { i as f32 };
                let half = |x: f32| ((x.to_bits() >> 16) as u16).to_le_bytes();
                let adds: Vec<u8> = (0..3 * LANES).flat_map(|i| half(add(i))).collect();
                let scales: Vec<u8> = (0..3 * LANES).flat_map(|i| half(0.5 * i as f32)).collect();
                // The largest entries, so that a sum that overflows is seen.
                for most in [false, true] {
                    let mut table =
                        || -> Vec<u8> { (0..width * 2).map(|_| if most { 255 } else { byte() }).collect() };
                    let (low, high) = (table(), table());
                    let mut estimates = [0.0; 3 * LANES];
                    let groups = Groups { codes: &codes, adds: &adds, scales: &scales };
                    let tables = Tables { low: &low, high: &high };
                    let scale = Scale { tables, step: 0.25, bias: 3.0, base: 7.0 };
                    assert_eq!(set.score(groups, scale, &masks, &mut estimates), 15 + 14, "{}", set.name);
                    for (i, estimate) in estimates.into_iter().enumerate() {
                        let (group, lane) = (i / LANES, i % LANES);
                        let sum: u32 = (0..width / 8)
                            .map(|j| {
                                let byte = codes[group * width * 2 + 16 * j + lane];
                                u32::from(low[16 * j + usize::from(byte & 15)])
                                    + u32::from(high[16 * j + usize::from(byte >> 4)])
                            })
                            .sum();
                        let want = 7.0 + add(i) - 0.5 * i as f32 * (0.25 * sum as f32 - 3.0);
                        let is_number = masks[group] >> lane & 1 == 1 && !want.is_nan();
                        let fits = (estimate - want).abs() <= 1e-4 * want.abs();
                        assert!(
                            if is_number { fits } else { estimate.is_nan() },
                            "{} {width} code {i}: {estimate}, not {want}",
                            set.name
                        );
                    }
                }
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
