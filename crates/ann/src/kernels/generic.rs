//! Bodies that the compiler vectorises for the instruction set of the function they are inlined into.

use super::{Groups, LANES, Scale, Tables};

#[inline(always)]
pub(super) fn hadamard(x: &mut [f32]) {
    let mut half = 1;
    while half < x.len() {
        for pair in x.chunks_exact_mut(2 * half) {
            let (left, right) = pair.split_at_mut(half);
            for (a, b) in left.iter_mut().zip(right) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

/// Partial sums that fill four registers of AVX-512.
const WIDE: usize = 64;

#[inline(always)]
fn total(sums: [f32; WIDE]) -> f32 {
    let mut sums = sums;
    let mut half = WIDE / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0]
}

#[inline(always)]
pub(super) fn dot_bytes(q: &[f32], code: &[i8]) -> f32 {
    let mut sums = [0.0; WIDE];
    for (q, code) in q.as_chunks::<WIDE>().0.iter().zip(code.as_chunks::<WIDE>().0) {
        for i in 0..WIDE {
            sums[i] += q[i] * f32::from(code[i]);
        }
    }
    total(sums)
}

#[inline(always)]
pub(super) fn dot_nibbles(q: &[f32], code: &[u8]) -> f32 {
    const HALF: usize = WIDE / 2;
    let (first, second) = q.split_at(q.len() / 2);
    let (mut low, mut high) = ([0.0; HALF], [0.0; HALF]);
    let halves = first.as_chunks::<HALF>().0.iter().zip(second.as_chunks::<HALF>().0);
    for ((first, second), code) in halves.zip(code.as_chunks::<HALF>().0) {
        for i in 0..HALF {
            low[i] += first[i] * (f32::from(code[i] & 15) - 8.0);
            high[i] += second[i] * (f32::from(code[i] >> 4) - 8.0);
        }
    }
    low.iter().chain(&high).sum()
}

#[inline(always)]
pub(super) fn squared_bytes(code: &[i8]) -> u32 {
    let mut sums = [0i32; WIDE];
    for code in code.as_chunks::<WIDE>().0 {
        for i in 0..WIDE {
            sums[i] += i32::from(i16::from(code[i]) * i16::from(code[i]));
        }
    }
    sums.iter().sum::<i32>() as u32
}

/// The nearest whole number to one between −128 and 255, modulo 256, the even one of two that are as near: the last bits of the
/// sum with a large number. A cast would look whether it fits, which vector instructions do not.
#[inline(always)]
fn rounded(x: f32) -> u8 {
    const LARGE: f32 = 1.5 * (1 << 23) as f32;
    (x + LARGE).to_bits() as u8
}

#[inline(always)]
pub(super) fn quantize(x: &[f32], factor: f32, most: f32, out: &mut [i8]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = rounded((x * factor).max(-most).min(most)) as i8;
    }
}

/// Signs of four numbers in each of 16 patterns.
const SIGNS: [[f32; 16]; 4] = {
    let mut signs = [[-1.0; 16]; 4];
    let mut at = 0;
    while at < 64 {
        if (at % 16) >> (at / 16) & 1 == 1 {
            signs[at / 16][at % 16] = 1.0;
        }
        at += 1;
    }
    signs
};

#[inline(always)]
pub(super) fn tables(query: &[f32], factor: f32, low: &mut [u8], high: &mut [u8]) {
    let tables = low.as_chunks_mut::<16>().0.iter_mut().zip(high.as_chunks_mut::<16>().0);
    for (eight, (low, high)) in query.as_chunks::<8>().0.iter().zip(tables) {
        for (four, table) in eight.as_chunks::<4>().0.iter().zip([low, high]) {
            let reach = four[0].abs() + four[1].abs() + four[2].abs() + four[3].abs();
            for i in 0..16 {
                let sum = SIGNS[0][i] * four[0]
                    + SIGNS[1][i] * four[1]
                    + SIGNS[2][i] * four[2]
                    + SIGNS[3][i] * four[3];
                // No sum is below zero, but for rounding.
                table[i] = rounded(((sum + reach) * factor).clamp(0.0, 255.0));
            }
        }
    }
}

/// Sums of the table entries that the bytes of 16 codes select.
#[inline(always)]
pub(super) fn sums(codes: &[u8], tables: Tables<'_>) -> [u32; LANES] {
    let mut sums = [0; LANES];
    let tables = tables.low.as_chunks::<16>().0.iter().zip(tables.high.as_chunks::<16>().0);
    for (codes, (low, high)) in codes.as_chunks::<LANES>().0.iter().zip(tables) {
        for (sum, code) in sums.iter_mut().zip(codes) {
            *sum += u32::from(low[usize::from(code & 15)]) + u32::from(high[usize::from(code >> 4)]);
        }
    }
    sums
}

/// Scores group after group, with what computes the sums of one.
#[inline(always)]
pub(super) fn score(
    groups: Groups<'_>,
    query: Scale<'_>,
    masks: &[u16],
    estimates: &mut [f32],
    sums: impl Fn(&[u8], Tables<'_>) -> [u32; LANES],
) -> usize {
    let Scale { tables, step, bias, base } = query;
    let codes = groups.codes.chunks_exact(tables.low.len());
    let factors = groups.adds.as_chunks::<{ 2 * LANES }>().0.iter();
    let factors = factors.zip(groups.scales.as_chunks::<{ 2 * LANES }>().0);
    let factor = |half: [u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(half)) << 16);
    let mut numbers = [0u32; LANES];
    for (((mask, out), codes), (adds, scales)) in
        masks.iter().zip(estimates.as_chunks_mut::<LANES>().0).zip(codes).zip(factors)
    {
        if *mask == 0 {
            *out = [f32::NAN; LANES];
            continue;
        }
        let sums = sums(codes, tables);
        let (adds, scales) = (adds.as_chunks::<2>().0, scales.as_chunks::<2>().0);
        for i in 0..LANES {
            // Signed, since vector instructions of all processors convert that; sums are small.
            let product = sums[i] as i32 as f32 * step - bias;
            let estimate = base + factor(adds[i]) - factor(scales[i]) * product;
            out[i] = if mask >> i & 1 == 1 { estimate } else { f32::NAN };
            numbers[i] += u32::from(!out[i].is_nan());
        }
    }
    numbers.iter().sum::<u32>() as usize
}

#[inline(always)]
pub(super) fn within(keys: &[u8], least: i64, most: i64, masks: &mut [u16]) {
    let width = most.wrapping_sub(least) as u64;
    for (mask, keys) in masks.iter_mut().zip(keys.as_chunks::<{ 8 * LANES }>().0) {
        let mut bits = 0;
        for (i, key) in keys.as_chunks::<8>().0.iter().enumerate() {
            let away = i64::from_le_bytes(*key).wrapping_sub(least) as u64;
            bits |= u16::from(away <= width) << i;
        }
        *mask &= bits;
    }
}
