//! The oracle, and the way of processors that have no kernel of their own.

use super::Tile;
use crate::decoder::lanes::LANES;

/// Multiplies the panels with one token; returns 1.
pub fn run(tile: &Tile<'_>, out: &mut [f32]) -> usize {
    let panels = tile.panels;
    let (format, tokens) = (panels.format, tile.x.tokens);
    let quads = format.group / 4;
    let (codes, scales, sums) = (tile.codes(0), tile.scales(0), tile.sums(0));
    for panel in 0..panels.count() {
        let one = panels.range(panel, 1);
        let mut acc = [0.0_f32; LANES];
        for (group, lines) in one.lines.chunks_exact(quads).enumerate() {
            let x = &codes[group * format.group..][..format.group];
            let scale = scales[group * format.group / 32];
            let mut dots = [-i32::from(format.offset) * sums[group]; LANES];
            for (line, x) in lines.iter().zip(x.chunks_exact(4)) {
                for (dot, codes) in dots.iter_mut().zip(line.0.chunks_exact(4)) {
                    for (&code, &x) in codes.iter().zip(x) {
                        *dot += i32::from(code) * i32::from(x);
                    }
                }
            }
            for row in 0..LANES {
                acc[row] += dots[row] as f32 * (one.scales[group].0[row] * scale);
                if format.has_minimum {
                    acc[row] += one.minimums[group].0[row] * (scale * sums[group] as f32);
                }
            }
        }
        out[(panel * tokens + tile.first_token) * LANES..][..LANES].copy_from_slice(&acc);
    }
    1
}
