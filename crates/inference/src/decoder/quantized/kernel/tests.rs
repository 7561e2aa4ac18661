//! Every kernel against floats, at awkward sizes.

use half::f16;

use super::*;
use crate::decoder::activations::Form;
use crate::decoder::gguf::TensorType;
use crate::decoder::quantized::unpack::Row;

const KINDS: [TensorType; 10] = [
    TensorType::Q8_0,
    TensorType::Q5_0,
    TensorType::Q5_1,
    TensorType::Q4_0,
    TensorType::Q4_1,
    TensorType::Q4_K,
    TensorType::Q5_K,
    TensorType::Q6_K,
    TensorType::Q3_K,
    TensorType::Q2_K,
];

fn random(seed: u64) -> impl FnMut() -> u32 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u32
    }
}

fn activations(isa: Isa, rounded: bool, tokens: usize, width: usize) -> Activations {
    let mut next = random(7);
    let values: Vec<f32> = (0..tokens * width).map(|_| (next() % 2001) as f32 / 100.0 - 10.0).collect();
    activations_of(isa, rounded, &values, width)
}

fn activations_of(isa: Isa, rounded: bool, values: &[f32], width: usize) -> Activations {
    let tokens = values.len() / width;
    let mut x = Activations { of_prompt: rounded, ..Activations::default() };
    let mut part = x.start((tokens, width), Form { floats: false, codes: true, rounds: true });
    values.chunks_exact(width).enumerate().for_each(|(t, row)| part.write(isa, t, row));
    x
}

/// Rows of every kind of format, as random blocks of its types.
fn rows(kind: TensorType, rows: usize, width: usize) -> Vec<Row> {
    let format = Format::of(kind).unwrap();
    let mut next = random(width as u64);
    (0..rows)
        .map(|_| {
            let mut row = Row::new(width, format);
            row.codes.fill_with(|| (next() % (1 << format.bits)) as u8);
            for factors in [&mut row.scales, &mut row.minimums] {
                factors.halves.fill_with(|| f16::from_f32((next() % 200) as f32 / 1000.0 - 0.1));
                factors.steps.fill_with(|| (next() % 64) as i8 - 20);
            }
            row
        })
        .collect()
}

fn pack(layout: Layout, rows: &[Row]) -> Vec<Line> {
    let mut lines = vec![Line::ZERO; layout.lines(rows.len())];
    for (panel, rows) in lines.chunks_exact_mut(layout.panel_lines()).zip(rows.chunks(LANES)) {
        rows.iter().enumerate().for_each(|(lane, row)| layout.pack(row, lane, panel));
    }
    lines
}

/// The largest weight that the factors of `row` can give.
fn reach(mut row: Row, format: Format) -> f32 {
    let mut weights = vec![0.0_f32; row.codes.len()];
    let extremes = [0, (1_u32 << format.bits) - 1].map(|code| {
        row.codes.fill(code as u8);
        row.weights(&mut weights);
        weights.iter().fold(0.0, |most: f32, weight| most.max(weight.abs()))
    });
    extremes[0].max(extremes[1])
}

#[test]
fn kernels_agree_with_floats() {
    for kind in KINDS {
        let format = Format::of(kind).unwrap();
        for (panels, blocks, tokens) in
            [(1, 1, 1), (2, 3, 2), (3, 2, 3), (1, 5, 5), (4, 7, 8), (2, 28, 13), (5, 1, 19), (3, 17, 9)]
        {
            let width = blocks * format.span;
            let layout = Layout { format, width };
            let rows = rows(kind, panels * LANES, width);
            let lines = pack(layout, &rows);
            let weights: Vec<Vec<f32>> = rows
                .iter()
                .map(|row| {
                    let mut weights = vec![0.0; width];
                    row.weights(&mut weights);
                    weights
                })
                .collect();
            let reaches: Vec<f32> = rows.into_iter().map(|row| reach(row, format)).collect();
            for (isa, rounded) in
                Isa::available().into_iter().flat_map(|isa| [(isa, false), (isa, rounds(isa))])
            {
                let x = activations(isa, rounded, tokens, width);
                let mut out = vec![f32::NAN; panels * tokens * LANES];
                Multiplier::new(isa, layout, &x).run(&lines, &mut out);
                for (i, &got) in out.iter().enumerate() {
                    let (panel, token, lane) = (i / (tokens * LANES), i / LANES % tokens, i % LANES);
                    let (mut want, mut size, mut square) = (0.0, 1.0, 0.0);
                    for (k, &weight) in weights[panel * LANES + lane].iter().enumerate() {
                        let at = token * width + k;
                        let product =
                            f64::from(weight) * f64::from(x.codes[at]) * f64::from(x.scales[at / 32]);
                        want += product;
                        size += product.abs();
                        square += (f64::from(x.codes[at]) * f64::from(x.scales[at / 32])).powi(2);
                    }
                    let error = (f64::from(got) - want).abs();
                    // Errors of half a step at most, here and there, add up like a random walk.
                    let step = f64::from(reaches[panel * LANES + lane]) / 127.0;
                    let most = if rounded { 2.0 * step * square.sqrt() } else { 0.0 };
                    assert!(
                        error < most + 1e-5 * size,
                        "{isa:?} {rounded} {kind:?} {panels} {width} {tokens} {i}: {got} {want}"
                    );
                }
                // A token's result is the same, to the bit, whoever goes with it.
                let alone = activations(isa, rounded, 1, width);
                let mut first = vec![f32::NAN; panels * LANES];
                Multiplier::new(isa, layout, &alone).run(&lines, &mut first);
                for (panel, first) in first.chunks_exact(LANES).enumerate() {
                    assert_eq!(first, &out[panel * tokens * LANES..][..LANES], "{isa:?} {kind:?} {tokens}");
                }
            }
        }
    }
}

/// Sums of 16 bits hold what they are given at the largest codes of both signs, too.
#[test]
fn sums_of_the_largest_codes_fit() {
    for kind in KINDS {
        let format = Format::of(kind).unwrap();
        let width = 2 * format.span;
        let layout = Layout { format, width };
        for code in [0, ((1_u32 << format.bits) - 1) as u8] {
            let mut rows = rows(kind, LANES, width);
            for row in &mut rows {
                row.codes.fill(code);
                row.scales.halves.fill(f16::ONE);
                row.scales.steps.fill(1);
                row.minimums.halves.fill(f16::ZERO);
            }
            let lines = pack(layout, &rows);
            let mut weights = vec![0.0; width];
            rows[0].weights(&mut weights);
            let values: Vec<f32> =
                [127.0, -127.0, 127.0].iter().flat_map(|&x| std::iter::repeat_n(x, width)).collect();
            for isa in Isa::available() {
                let x = activations_of(isa, false, &values, width);
                let mut out = vec![f32::NAN; 3 * LANES];
                Multiplier::new(isa, layout, &x).run(&lines, &mut out);
                for (got, value) in out.chunks_exact(LANES).zip([127.0, -127.0, 127.0]) {
                    let want: f32 = weights.iter().map(|weight| weight * value).sum();
                    let close = got.iter().all(|got| (got - want).abs() <= 1e-5 * want.abs());
                    assert!(close, "{isa:?} {kind:?} {code}: {got:?} {want}");
                }
            }
        }
    }
}
