//! The oracle, and the way of processors that have no kernel of their own.

use super::Tile;
use crate::decoder::lanes::LANES;

/// Adds the products of the panels with one token; returns 1.
pub fn run(tile: &Tile<'_>, out: &mut [f32]) -> usize {
    let format = tile.format;
    let (codes, scales, sums) = (tile.codes(0), tile.scales(0), tile.sums(0));
    for (p, panel) in tile.panels.iter().enumerate() {
        let acc = &mut out[tile.at(p, 0)..][..LANES];
        if tile.begins() {
            acc.fill(0.0);
        }
        for (group, lines) in panel.lines.chunks_exact(format.group / 4).enumerate() {
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
                acc[row] += dots[row] as f32 * (panel.scales[group].0[row] * scale);
                if format.has_minimum {
                    acc[row] += panel.minimums[group].0[row] * (scale * sums[group] as f32);
                }
            }
        }
    }
    1
}
