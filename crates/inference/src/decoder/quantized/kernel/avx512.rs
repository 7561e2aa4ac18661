//! AVX-512 with VNNI: a line of codes is one register; `vpdpbusd` adds four products to each of 16 sums.

use std::arch::x86_64::{
    _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_load_ps, _mm512_load_si512,
    _mm512_loadu_ps, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};

use super::super::packed::BLOCK;
use super::Tile;
use crate::decoder::lanes::LANES;

/// Adds the products of one or two panels with up to six tokens; returns how many.
pub fn run(tile: &Tile<'_>, out: &mut [f32]) -> usize {
    let left = tile.x.tokens - tile.first_token;
    match (tile.panels.len(), left) {
        (2, 6..) => with_format::<2, 6>(tile, out),
        (2, 4..) => with_format::<2, 4>(tile, out),
        (2, 2..) => with_format::<2, 2>(tile, out),
        (2, _) => with_format::<2, 1>(tile, out),
        (_, 4..) => with_format::<1, 4>(tile, out),
        _ => with_format::<1, 1>(tile, out),
    }
}

fn with_format<const P: usize, const T: usize>(tile: &Tile<'_>, out: &mut [f32]) -> usize {
    let format = tile.format;
    assert_eq!(tile.panels.len(), P);
    assert!(tile.first_token + T <= tile.x.tokens && out.len() == P * tile.x.tokens * LANES);
    // SAFETY: this module is reached only with an `Isa` that has these instructions; `product` stays within
    // the slices of `tile`, whose lengths follow from the panels' number, the width and the format.
    unsafe {
        match (format.group, format.has_minimum) {
            (32, false) => product::<P, T, 8, false>(tile, out),
            (32, true) => product::<P, T, 8, true>(tile, out),
            (16, false) => product::<P, T, 4, false>(tile, out),
            _ => product::<P, T, 4, true>(tile, out),
        }
    }
    T
}

/// # Safety
/// The processor has the instructions; the tile has `P` panels and at least `T` tokens from its first on, and
/// its format has `QUADS` lines to a group, and a minimum as `MINIMUM` says.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn product<const P: usize, const T: usize, const QUADS: usize, const MINIMUM: bool>(
    tile: &Tile<'_>,
    out: &mut [f32],
) {
    let groups = tile.groups();
    for one in tile.panels {
        assert!(one.lines.len() == groups * QUADS && one.scales.len() == groups);
        assert!(!MINIMUM || one.minimums.len() == groups);
    }
    let lines: [_; P] = std::array::from_fn(|p| tile.panels[p].lines.as_ptr());
    let scales: [_; P] = std::array::from_fn(|p| tile.panels[p].scales.as_ptr());
    let minimums: [_; P] = std::array::from_fn(|p| tile.panels[p].minimums.as_ptr());
    // The tables of all tokens: where those of the first begin, and how far it is to the next one's.
    let x = tile.x;
    let (row, groups_of_row) = (x.width, x.width / (QUADS * 4));
    let (from, to) = (tile.first_token, tile.first_token + T);
    let (first_code, first_group) = (tile.first_block * BLOCK, tile.first_block * BLOCK / (QUADS * 4));
    assert!(to <= x.tokens && first_group + groups <= groups_of_row);
    let codes = x.codes[from * row..to * row][first_code..].as_ptr();
    let factors = x.scales[from * row / BLOCK..to * row / BLOCK][tile.first_block..].as_ptr();
    let table = from * groups_of_row..to * groups_of_row;
    let starts =
        if MINIMUM { std::ptr::null() } else { tile.sums.starts[table.clone()][first_group..].as_ptr() };
    let shares = if MINIMUM { tile.sums.shares[table][first_group..].as_ptr() } else { std::ptr::null() };
    let mut acc = [[_mm512_setzero_ps(); P]; T];
    if !tile.begins() {
        for (t, acc) in acc.iter_mut().enumerate() {
            for (p, acc) in acc.iter_mut().enumerate() {
                // SAFETY: a slice of sixteen floats.
                *acc = unsafe { _mm512_loadu_ps(out[tile.at(p, t)..][..LANES].as_ptr()) };
            }
        }
    }
    for group in 0..groups {
        let mut dots = std::array::from_fn::<_, T, _>(|t| {
            // SAFETY: there is a start for each group of a format without minimum.
            let start = if MINIMUM { 0 } else { unsafe { *starts.add(t * groups_of_row + group) } };
            [_mm512_set1_epi32(start); P]
        });
        for quad in 0..QUADS {
            let at = group * QUADS + quad;
            // SAFETY: `at` is below groups · QUADS; lines are aligned to 64 bytes.
            let w = std::array::from_fn::<_, P, _>(|p| unsafe { _mm512_load_si512(lines[p].add(at).cast()) });
            for t in 0..T {
                // SAFETY: `4 · at + 3` is below the width.
                let x = unsafe { codes.add(t * row + at * 4).cast::<i32>().read_unaligned() };
                let x = _mm512_set1_epi32(x);
                for p in 0..P {
                    dots[t][p] = _mm512_dpbusd_epi32(dots[t][p], w[p], x);
                }
            }
        }
        for p in 0..P {
            // SAFETY: `group` is below the lengths checked above; the lanes are aligned to 64 bytes.
            let scale = unsafe { _mm512_load_ps(scales[p].add(group).cast()) };
            for t in 0..T {
                // SAFETY: as above.
                let factor =
                    _mm512_set1_ps(unsafe { *factors.add(t * row / BLOCK + group * QUADS * 4 / BLOCK) });
                let mut part = _mm512_mul_ps(_mm512_cvtepi32_ps(dots[t][p]), scale);
                if MINIMUM {
                    // SAFETY: as above; the format has minimums.
                    let (minimum, share) = unsafe {
                        (
                            _mm512_load_ps(minimums[p].add(group).cast()),
                            *shares.add(t * groups_of_row + group),
                        )
                    };
                    part = _mm512_fmadd_ps(minimum, _mm512_set1_ps(share), part);
                }
                acc[t][p] = _mm512_fmadd_ps(part, factor, acc[t][p]);
            }
        }
    }
    for (t, acc) in acc.into_iter().enumerate() {
        for (p, acc) in acc.into_iter().enumerate() {
            let out = &mut out[tile.at(p, t)..][..LANES];
            // SAFETY: `out` has 16 floats.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), acc) };
        }
    }
}
