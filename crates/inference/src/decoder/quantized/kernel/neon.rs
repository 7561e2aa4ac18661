//! NEON: a line of codes is four registers; `sdot` adds four products to each of 4 sums.

use std::arch::aarch64::{
    int32x4_t, vcvtq_f32_s32, vdupq_n_f32, vdupq_n_s32, vdupq_n_u8, vfmaq_f32, vld1q_f32, vld1q_u8,
    vmulq_f32, vreinterpretq_s8_s32, vreinterpretq_s8_u8, vst1q_f32, vsubq_u8,
};

use super::Tile;
use crate::decoder::lanes::LANES;

/// Adds the products of the panels with up to four tokens; returns how many.
pub fn run(tile: &Tile<'_>, out: &mut [f32]) -> usize {
    let (tokens, panels) = (tile.x.tokens, tile.panels.len());
    let together = if tokens - tile.first_token >= 4 { 4 } else { 1 };
    assert!(out.len() == panels * tokens * LANES);
    for panel in 0..panels {
        // SAFETY: this module is reached only with an `Isa` that has these instructions; `product` checks the
        // lengths that it relies on.
        unsafe {
            if together == 4 {
                product::<4>(tile, out, panel);
            } else {
                product::<1>(tile, out, panel);
            }
        }
    }
    together
}

/// `acc + Σ w · x` over each four bytes.
///
/// # Safety
/// The processor has the dot product instructions.
#[target_feature(enable = "neon,dotprod")]
unsafe fn dot(
    mut acc: int32x4_t,
    w: std::arch::aarch64::int8x16_t,
    x: std::arch::aarch64::int8x16_t,
) -> int32x4_t {
    // SAFETY: one instruction on registers. (The intrinsic `vdotq_s32` is not stable.)
    unsafe {
        std::arch::asm!(
            "sdot {acc:v}.4s, {w:v}.16b, {x:v}.16b",
            acc = inout(vreg) acc, w = in(vreg) w, x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    acc
}

/// # Safety
/// The processor has NEON with the dot product instructions.
#[target_feature(enable = "neon,dotprod")]
unsafe fn product<const T: usize>(tile: &Tile<'_>, out: &mut [f32], panel: usize) {
    let (one, groups) = (tile.panels[panel], tile.groups());
    let quads = tile.format.group / 4;
    assert!(one.lines.len() == groups * quads && one.scales.len() == groups);
    let codes: [&[i8]; T] = std::array::from_fn(|t| tile.codes(t));
    let factors: [&[f32]; T] = std::array::from_fn(|t| tile.scales(t));
    let sums: [&[i32]; T] = std::array::from_fn(|t| tile.sums(t));
    assert!(codes.iter().all(|c| c.len() == groups * quads * 4));
    // Codes become signed by their offset: 128 wraps to the whole signed range.
    let offset = vdupq_n_u8(tile.format.offset);
    let at: [usize; T] = std::array::from_fn(|t| tile.at(panel, t));
    let mut acc = [[vdupq_n_f32(0.0); 4]; T];
    if !tile.begins() {
        acc = at.map(|at| {
            // SAFETY: slices of four floats.
            [0, 4, 8, 12].map(|lane| unsafe { vld1q_f32(out[at + lane..at + lane + 4].as_ptr()) })
        });
    }
    for group in 0..groups {
        let mut dots = [[vdupq_n_s32(0); 4]; T];
        for (quad, line) in one.lines[group * quads..][..quads].iter().enumerate() {
            let at = (group * quads + quad) * 4;
            for part in 0..4 {
                // SAFETY: a line has four parts of 16 bytes.
                let w = unsafe { vld1q_u8(line.0.as_ptr().add(part * 16)) };
                let w = vreinterpretq_s8_u8(vsubq_u8(w, offset));
                for t in 0..T {
                    let x = &codes[t][at..at + 4];
                    let x = i32::from_le_bytes([x[0] as u8, x[1] as u8, x[2] as u8, x[3] as u8]);
                    let x = vreinterpretq_s8_s32(vdupq_n_s32(x));
                    // SAFETY: as this function.
                    dots[t][part] = unsafe { dot(dots[t][part], w, x) };
                }
            }
        }
        for t in 0..T {
            let factor = factors[t][group * quads / 8];
            for part in 0..4 {
                // SAFETY: sixteen floats.
                let scale = unsafe { vld1q_f32(one.scales[group].0.as_ptr().add(part * 4)) };
                let both = vmulq_f32(scale, vdupq_n_f32(factor));
                acc[t][part] = vfmaq_f32(acc[t][part], vcvtq_f32_s32(dots[t][part]), both);
                if tile.format.has_minimum {
                    // SAFETY: as above.
                    let minimum = unsafe { vld1q_f32(one.minimums[group].0.as_ptr().add(part * 4)) };
                    let sum = vdupq_n_f32(factor * sums[t][group] as f32);
                    acc[t][part] = vfmaq_f32(acc[t][part], minimum, sum);
                }
            }
        }
    }
    for (at, acc) in at.into_iter().zip(acc) {
        for (part, acc) in acc.into_iter().enumerate() {
            let out = &mut out[at + part * 4..][..4];
            // SAFETY: `out` has four floats.
            unsafe { vst1q_f32(out.as_mut_ptr(), acc) };
        }
    }
}
