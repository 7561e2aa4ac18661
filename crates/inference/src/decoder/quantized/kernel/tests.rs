//! Every kernel against floats, at awkward sizes.

use super::*;
use crate::decoder::gguf::TensorType;
use crate::decoder::quantized::unpack::Row;

fn random(seed: u64) -> impl FnMut() -> u32 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u32
    }
}

fn activations(isa: Isa, tokens: usize, width: usize) -> Activations {
    let mut next = random(7);
    let values: Vec<f32> = (0..tokens * width).map(|_| (next() % 2001) as f32 / 100.0 - 10.0).collect();
    let mut x = Activations::default();
    x.fill(isa, 1, (tokens, width), &mut [], |t, _, row| {
        row.copy_from_slice(&values[t * width..][..width]);
    });
    x
}

#[test]
fn kernels_agree_with_floats() {
    for kind in [
        TensorType::Q8_0,
        TensorType::Q5_0,
        TensorType::Q4_0,
        TensorType::Q4_1,
        TensorType::Q6_K,
        TensorType::Q3_K,
        TensorType::Q2_K,
    ] {
        let format = Format::of(kind).unwrap();
        for (panels, width, tokens) in
            [(1, 32, 1), (2, 96, 2), (3, 64, 3), (1, 160, 5), (4, 224, 7), (2, 896, 13), (5, 32, 19)]
        {
            let mut next = random(width as u64);
            let groups = width / format.group;
            let lines: Vec<Line> = (0..panels * width / 4)
                .map(|_| Line(std::array::from_fn(|_| (next() % (u32::from(format.largest) + 1)) as u8)))
                .collect();
            let mut lanes = |n: usize| -> Vec<Lanes> {
                let mut one = |_| (next() % 200) as f32 / 1000.0 - 0.1;
                (0..n).map(|_| Lanes(std::array::from_fn(&mut one))).collect()
            };
            let scales = lanes(panels * groups);
            let minimums = lanes(if format.has_minimum { panels * groups } else { 0 });
            let matrix = Panels { format, width, lines: &lines, scales: &scales, minimums: &minimums };
            for isa in Isa::available() {
                let x = activations(isa, tokens, width);
                let mut out = vec![f32::NAN; panels * tokens * LANES];
                multiply(isa, matrix, &x, &mut out);
                for (i, &got) in out.iter().enumerate() {
                    let (panel, token, row) = (i / (tokens * LANES), i / LANES % tokens, i % LANES);
                    let one = matrix.range(panel, 1);
                    let codes = (0..width).map(|k| one.lines[k / 4].0[row * 4 + k % 4]).collect();
                    let column = |l: &[Lanes]| l.iter().map(|l| l.0[row]).collect::<Vec<f32>>();
                    let mut minimums = column(one.minimums);
                    minimums.resize(groups, 0.0);
                    let unpacked = Row { codes, scales: column(one.scales), minimums };
                    let mut weights = vec![0.0; width];
                    unpacked.weights(format, &mut weights);
                    let mut want = 0.0;
                    let mut size = 1.0;
                    for (k, weight) in weights.iter().enumerate() {
                        let at = token * width + k;
                        let product =
                            f64::from(*weight) * f64::from(x.codes[at]) * f64::from(x.scales[at / 32]);
                        want += product;
                        size += product.abs();
                    }
                    let error = (f64::from(got) - want).abs();
                    assert!(
                        error < 1e-5 * size,
                        "{isa:?} {kind:?} {panels} {width} {tokens} {i}: {got} {want}"
                    );
                }
            }
        }
    }
}
