//! AVX-512 for few tokens: weights go from memory through registers into the products, without a stop in between, so
//! that the speed of memory decides.

use std::arch::x86_64::{
    _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_mul_ps, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};

use super::super::packed::{BLOCK, Layout, Line, bytes};
use super::Sums;
use super::avx512_load::{Factors, block, prefetch_behind};
use crate::decoder::activations::Activations;
use crate::decoder::lanes::LANES;

/// Most tokens.
pub const MOST: usize = 8;

/// As [`super::multiply`], for at most [`MOST`] tokens.
pub fn run(layout: Layout, lines: &[Line], x: &Activations, sums: &Sums, out: &mut [f32]) {
    match x.tokens {
        0 => {}
        1 => with_format::<1>(layout, lines, x, sums, out),
        2 => with_format::<2>(layout, lines, x, sums, out),
        3..=4 => with_format::<4>(layout, lines, x, sums, out),
        _ => with_format::<MOST>(layout, lines, x, sums, out),
    }
}

fn with_format<const T: usize>(
    layout: Layout,
    lines: &[Line],
    x: &Activations,
    sums: &Sums,
    out: &mut [f32],
) {
    let one = match (layout.format.bits, layout.format.group) {
        (4, 32) => product::<T, 4, 32>,
        (4, _) => product::<T, 4, 16>,
        (5, _) => product::<T, 5, 32>,
        (6, _) => product::<T, 6, 16>,
        _ => product::<T, 8, 32>,
    };
    assert!(x.tokens <= T && x.width == layout.width && x.codes.len() == x.tokens * x.width);
    let panels = lines.chunks_exact(layout.panel_lines()).zip(out.chunks_exact_mut(x.tokens * LANES));
    for (panel, out) in panels {
        // SAFETY: this module is reached only with an `Isa` that has these instructions; the format has that many bits
        // and that group.
        unsafe { one(layout, panel, x, sums, out) };
    }
}

/// The values of a token in a table with `groups` for each, or nothing of an empty one.
fn table<T>(table: &[T], token: usize, groups: usize) -> &[T] {
    if table.is_empty() { &[] } else { &table[token * groups..][..groups] }
}

/// One panel with at most `T` tokens.
///
/// # Safety
/// The processor has the instructions, and the format has `BITS` bits and groups of `GROUP`.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn product<const T: usize, const BITS: usize, const GROUP: usize>(
    layout: Layout,
    panel: &[Line],
    x: &Activations,
    sums: &Sums,
    out: &mut [f32],
) {
    let Layout { format, width } = layout;
    let (codes, factors) = panel.split_at(layout.code_lines());
    let (minimums, end) = layout.factors();
    let scales = Factors::new(layout, &bytes(factors)[..minimums]);
    let minimums = format.has_minimum.then(|| Factors::new(layout, &bytes(factors)[minimums..end]));
    let each = BLOCK / GROUP;
    let (blocks, groups) = (width / BLOCK, width / GROUP);
    assert!(codes.len() == blocks * BITS && width.is_multiple_of(BLOCK));
    // Places behind the last token repeat it; their results are dropped.
    let rows: [&[i8]; T] = std::array::from_fn(|t| &x.codes[t.min(x.tokens - 1) * width..][..width]);
    let x_scales: [&[f32]; T] = std::array::from_fn(|t| &x.scales[t.min(x.tokens - 1) * blocks..][..blocks]);
    let starts: [&[i32]; T] = std::array::from_fn(|t| table(&sums.starts, t.min(x.tokens - 1), groups));
    let shares: [&[f32]; T] = std::array::from_fn(|t| table(&sums.shares, t.min(x.tokens - 1), groups));
    let lines_of_block = panel.len().div_ceil(blocks);
    let mut acc = [_mm512_setzero_ps(); T];
    for b in 0..blocks {
        let lines = codes[b * BITS..].as_ptr();
        // With their share of scales and minimums, which stand behind the codes.
        prefetch_behind(panel.as_ptr().wrapping_add(b * lines_of_block), lines_of_block);
        // SAFETY: block `b` has `BITS` lines.
        let w = unsafe { block::<BITS>(lines) };
        for (part, w) in w.chunks_exact(GROUP / 4).enumerate() {
            let group = b * each + part;
            let scale = scales.group(group);
            let minimum = minimums.as_ref().map(|m| m.group(group));
            for t in 0..T {
                let mut dots = _mm512_set1_epi32(if minimum.is_some() { 0 } else { starts[t][group] });
                let row = &rows[t][group * GROUP..][..GROUP];
                for (w, x) in w.iter().zip(row.as_chunks::<4>().0) {
                    let x = i32::from_le_bytes(x.map(i8::cast_unsigned));
                    dots = _mm512_dpbusd_epi32(dots, *w, _mm512_set1_epi32(x));
                }
                let mut part = _mm512_mul_ps(_mm512_cvtepi32_ps(dots), scale);
                if let Some(minimum) = minimum {
                    part = _mm512_fmadd_ps(minimum, _mm512_set1_ps(shares[t][group]), part);
                }
                acc[t] = _mm512_fmadd_ps(part, _mm512_set1_ps(x_scales[t][b]), acc[t]);
            }
        }
    }
    for (out, acc) in out.chunks_exact_mut(LANES).zip(acc) {
        // SAFETY: `out` has 16 floats.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), acc) };
    }
}
