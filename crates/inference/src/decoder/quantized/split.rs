//! Matrices in two planes: the high four bits of the codes with the scales, and the bits below them apart. Products with
//! the high plane alone tell about how large the results are; both together are the weights as they were.

use super::packed::{BLOCK, Layout, Line};
use super::unpack::{Format, Row};
use crate::decoder::isa::dispatch;

/// Bits of the high plane.
const HIGH: usize = 4;

/// How a matrix lies in two planes.
#[derive(Debug, Clone, Copy)]
pub struct Split {
    whole: Layout,
}

impl Split {
    /// For a matrix that is `whole` in one; none where few bits are left below, or a minimum stands beside them.
    pub fn of(whole: Layout) -> Option<Self> {
        (matches!(whole.format.bits, 6 | 8) && !whole.format.has_minimum).then_some(Self { whole })
    }

    /// Both planes together.
    pub fn whole(self) -> Layout {
        self.whole
    }

    /// The high plane by itself: weights are about 2^[`low_bits`](Split::low_bits) times what it says.
    pub fn high(self) -> Layout {
        let Layout { format, width } = self.whole;
        Layout { format: Format { bits: HIGH, offset: format.offset >> self.low_bits(), ..format }, width }
    }

    /// Bits of a code in the low plane.
    pub fn low_bits(self) -> usize {
        self.whole.format.bits - HIGH
    }

    /// Lines of a panel's low plane.
    pub fn low_lines(self) -> usize {
        self.whole.width / BLOCK * self.low_bits()
    }

    /// What the low plane has in the mean.
    fn mean(self) -> f32 {
        ((1 << self.low_bits()) - 1) as f32 / 2.0
    }

    /// What an integer sum of the high plane begins with, so that it has the mean of the low plane in it, for
    /// activations whose codes have the sum `sum`.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code))]
    pub fn start(self, sum: i32) -> i32 {
        let halves = (1 << self.low_bits()) - 1 - 2 * i32::from(self.whole.format.offset);
        (halves * sum + (1 << self.low_bits())) >> (self.low_bits() + 1)
    }

    /// Root of the mean square of what the low plane has beside its mean. A product with activations of norm n differs by
    /// about n times as much from that of the high plane.
    pub fn noise(self, row: &Row) -> f32 {
        let (format, mask) = (self.whole.format, (1 << self.low_bits()) - 1);
        let groups = row.codes.chunks_exact(format.group).enumerate();
        let squares: f32 = groups
            .map(|(group, codes)| {
                let scale = row.scales.value(format, group);
                let square = |code: &u8| (f32::from(code & mask) - self.mean()).powi(2);
                scale * scale * codes.iter().map(square).sum::<f32>()
            })
            .sum();
        (squares / row.codes.len() as f32).sqrt()
    }

    /// Writes `row`, of which the high bits of the codes are left, into lane `lane` of two empty panels.
    pub fn pack(self, row: &mut Row, lane: usize, high: &mut [Line], low: &mut [Line]) {
        let bits = self.low_bits();
        for (lines, block) in low.chunks_exact_mut(bits).zip(row.codes.chunks_exact(BLOCK)) {
            let each = 8 / bits;
            for (k, &code) in block.iter().enumerate() {
                let (q, at) = (k / 4, lane * 4 + k % 4);
                lines[q / each].0[at] |= (code & ((1 << bits) - 1)) << (bits * (q % each));
            }
        }
        row.codes.iter_mut().for_each(|code| *code >>= bits);
        self.high().pack(row, lane, high);
    }

    /// The panel of both planes together.
    pub fn merge(self, isa: crate::decoder::isa::Isa, high: &[Line], low: &[Line], out: &mut [Line]) {
        merge(isa, self, high, low, out);
    }
}

/// Asks for what is read some time after these lines, if the panels behind them are next.
#[inline(always)]
fn ask_for_more(high: &[Line], low: &[Line]) {
    #[cfg(target_arch = "x86_64")]
    for (lines, each) in [(high, high.len() + 1), (low, low.len())] {
        super::kernel::prefetch_behind(lines.as_ptr(), each);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (high, low);
}

dispatch! {
    fn merge(split: Split, high: &[Line], low: &[Line], out: &mut [Line]) = merge_body
}

#[inline(always)]
fn merge_body<const FMA: bool>(split: Split, high: &[Line], low: &[Line], out: &mut [Line]) {
    let (high, factors) = high.split_at(split.high().code_lines());
    let (out, to) = out.split_at_mut(split.whole.code_lines());
    to.copy_from_slice(factors);
    let high = high.as_chunks::<HIGH>().0;
    if split.low_bits() == 4 {
        let (low, out) = (low.as_chunks::<4>().0, out.as_chunks_mut::<8>().0);
        for ((high, low), out) in high.iter().zip(low).zip(out) {
            ask_for_more(high, low);
            for ((high, low), out) in high.iter().zip(low).zip(out.as_chunks_mut::<2>().0) {
                for i in 0..64 {
                    out[0].0[i] = high.0[i] << 4 | low.0[i] & 15;
                    out[1].0[i] = high.0[i] & 0xF0 | low.0[i] >> 4;
                }
            }
        }
        return;
    }
    // Codes of six bits: their low four bits, then their two higher ones.
    let (low, out) = (low.as_chunks::<2>().0, out.as_chunks_mut::<6>().0);
    for ((high, low), out) in high.iter().zip(low).zip(out) {
        ask_for_more(high, low);
        let (nibbles, pairs) = out.split_at_mut(4);
        for (half, (low, pairs)) in low.iter().zip(pairs).enumerate() {
            let (high, nibbles) = (&high[2 * half..][..2], &mut nibbles[2 * half..][..2]);
            for i in 0..64 {
                let (a, b, l) = (high[0].0[i], high[1].0[i], low.0[i]);
                nibbles[0].0[i] = a << 2 & 0xCC | l & 3 | l << 2 & 0x30;
                nibbles[1].0[i] = b << 2 & 0xCC | l >> 4 & 3 | l >> 2 & 0x30;
                pairs.0[i] = a >> 2 & 3 | a >> 4 & 12 | b << 2 & 0x30 | b & 0xC0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::decoder::gguf::TensorType;
    use crate::decoder::isa::Isa;
    use crate::decoder::lanes::LANES;

    fn rows(format: Format, width: usize) -> Vec<Row> {
        let mut state = 7_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        let row = |_| {
            let mut row = Row::new(width, format);
            row.codes.fill_with(|| (next() % (1 << format.bits)) as u8);
            row.scales.halves.fill_with(|| f16::from_f32((next() % 200) as f32 / 1000.0 - 0.1));
            row.scales.steps.fill_with(|| (next() % 64) as i8 - 20);
            row
        };
        (0..LANES).map(row).collect()
    }

    #[test]
    fn planes_merge_to_the_panel_of_the_whole() {
        for kind in [TensorType::Q8_0, TensorType::Q6_K] {
            let format = Format::of(kind).unwrap();
            let whole = Layout { format, width: 3 * format.span };
            let split = Split::of(whole).unwrap();
            let empty = |lines| vec![Line::ZERO; lines];
            let (mut want, mut got) = (empty(whole.panel_lines()), empty(whole.panel_lines()));
            let (mut high, mut low) = (empty(split.high().panel_lines()), empty(split.low_lines()));
            for (lane, row) in rows(format, whole.width).iter_mut().enumerate() {
                whole.pack(row, lane, &mut want);
                split.pack(row, lane, &mut high, &mut low);
            }
            for isa in Isa::available() {
                split.merge(isa, &high, &low, &mut got);
                assert_eq!(got, want, "{isa:?} {kind:?}");
            }
        }
        for kind in [TensorType::Q5_0, TensorType::Q4_K, TensorType::Q5_1] {
            let format = Format::of(kind).unwrap();
            assert!(Split::of(Layout { format, width: format.span }).is_none(), "{kind:?}");
        }
    }

    #[test]
    fn noise_is_what_the_high_plane_lacks() {
        for kind in [TensorType::Q8_0, TensorType::Q6_K] {
            let format = Format::of(kind).unwrap();
            let split = Split::of(Layout { format, width: 8 * format.span }).unwrap();
            for mut row in rows(format, 8 * format.span) {
                let (mut all, mut high) = (vec![0.0; row.codes.len()], vec![0.0; row.codes.len()]);
                row.weights(&mut all);
                let noise = split.noise(&row);
                // The middle of what the low bits may be is no code, so it comes by its two neighbours.
                let low = split.low_bits();
                for middle in [(1 << low) / 2 - 1, (1 << low) / 2] {
                    row.codes.iter_mut().for_each(|code| *code = *code >> low << low | middle);
                    let mut weights = vec![0.0; row.codes.len()];
                    row.weights(&mut weights);
                    high.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight / 2.0);
                }
                let square = |(a, b): (&f32, &f32)| (a - b) * (a - b);
                let want = (all.iter().zip(&high).map(square).sum::<f32>() / all.len() as f32).sqrt();
                assert!((noise - want).abs() < 1e-4 * want, "{kind:?}: {noise} {want}");
            }
        }
    }
}
