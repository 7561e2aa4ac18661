//! Arithmetic on rows of floats, sixteen lanes at a time, in plain Rust that the compiler vectorises for each
//! instruction set ([`dispatch`]).

use super::isa::dispatch;

/// Sixteen floats: a cache line, a register of AVX-512, two of AVX2, four of NEON.
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub struct Lanes(pub [f32; 16]);

/// Floats of a [`Lanes`].
pub const LANES: usize = 16;

impl Lanes {
    /// All zero.
    pub const ZERO: Self = Self([0.0; LANES]);
}

/// `a * b + c`, rounded once where `FMA` says that the processor can.
#[inline(always)]
pub fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `sums[r][c] += Σ_k a[r][k] · b(k, c)`: `R` rows against `C` columns of lanes, in the registers of AVX-512 for 4 and 4.
#[inline(always)]
pub fn multiply_tile<'a, const FMA: bool, const R: usize, const C: usize>(
    a: [&[f32]; R],
    b: impl Fn(usize, usize) -> &'a Lanes,
    sums: &mut [[Lanes; C]; R],
) {
    let n = a[0].len();
    let a = a.map(|row| &row[..n]);
    let mut acc = *sums;
    for k in 0..n {
        for c in 0..C {
            let column = b(k, c);
            for r in 0..R {
                // Made anew instead of changed in place: so the compiler keeps all of them in registers.
                let old = acc[r][c];
                acc[r][c] = Lanes(std::array::from_fn(|i| fma::<FMA>(a[r][k], column.0[i], old.0[i])));
            }
        }
    }
    *sums = acc;
}

/// e^x with a relative error below 3e-7 (Cephes' polynomial); 0 below -87.
#[inline(always)]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    // Adding 1.5 · 2^23 leaves the nearest whole number in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.0, 88.0);
    let rounded = fma::<FMA>(clamped, std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = fma::<FMA>(n, -0.693_359_4, clamped);
    let r = fma::<FMA>(n, 2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4;
    p = fma::<FMA>(p, r, 1.398_199_9e-3);
    p = fma::<FMA>(p, r, 8.333_452e-3);
    p = fma::<FMA>(p, r, 4.166_579_6e-2);
    p = fma::<FMA>(p, r, 1.666_666_6e-1);
    p = fma::<FMA>(p, r, 0.5);
    let p = fma::<FMA>(p, r * r, r) + 1.0;
    let power = (rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127)) << 23;
    let result = p * f32::from_bits(power);
    if x < -87.0 { 0.0 } else { result }
}

/// Sum in sixteen lanes, then across them: the same order whatever the instruction set.
#[inline(always)]
fn sum_of(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut acc = [0.0; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().map(|&v| f(v)).sum();
    for chunk in chunks {
        for lane in 0..LANES {
            acc[lane] += f(chunk[lane]);
        }
    }
    acc.iter().sum::<f32>() + rest
}

dispatch! {
    /// Root mean square normalisation (Zhang and Sennrich 2019): `out = x / rms(x) · weight`.
    pub fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) = rms_norm_body
}

#[inline(always)]
fn rms_norm_body<const FMA: bool>(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let mean = sum_of(x, |v| v * v) / x.len() as f32;
    let factor = 1.0 / (mean + epsilon).sqrt();
    for ((out, &x), &w) in out.iter_mut().zip(x).zip(weight) {
        *out = x * factor * w;
    }
}

dispatch! {
    /// SwiGLU (Shazeer 2020): `out = silu(gate) · up`, of sixteen values at every `stride` of both.
    pub fn swiglu(gate: &[f32], up: &[f32], stride: usize, out: &mut [f32]) = swiglu_body
}

#[inline(always)]
fn swiglu_body<const FMA: bool>(gate: &[f32], up: &[f32], stride: usize, out: &mut [f32]) {
    for ((out, gate), up) in out.chunks_exact_mut(LANES).zip(gate.chunks(stride)).zip(up.chunks(stride)) {
        for ((out, &g), &u) in out.iter_mut().zip(&gate[..LANES]).zip(&up[..LANES]) {
            *out = g / (1.0 + exp::<FMA>(-g)) * u;
        }
    }
}

dispatch! {
    /// `Σ e^((x - max) · factor)`.
    pub fn sum_exp(x: &[f32], max: f32, factor: f32) -> f32 = sum_exp_body
}

#[inline(always)]
fn sum_exp_body<const FMA: bool>(x: &[f32], max: f32, factor: f32) -> f32 {
    sum_of(x, |v| exp::<FMA>((v - max) * factor))
}

#[cfg(test)]
mod tests {
    use super::super::isa::Isa;
    use super::*;

    #[test]
    fn exp_is_close_to_the_library() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            let (fused, plain, want) = (exp::<true>(x), exp::<false>(x), x.exp());
            assert!((fused / want - 1.0).abs() < 1e-6, "{x}: {fused} {want}");
            assert!((plain / want - 1.0).abs() < 1e-6, "{x}: {plain} {want}");
        }
        assert_eq!(exp::<true>(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp::<true>(0.0), 1.0);
    }

    #[test]
    fn instruction_sets_agree() {
        let x: Vec<f32> = (0..96).map(|i| ((i * 37 % 101) as f32 - 50.0) / 9.0).collect();
        let w: Vec<f32> = (0..96).map(|i| 0.5 + (i % 7) as f32 / 5.0).collect();
        let mean: f64 = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>() / 96.0;
        for isa in Isa::available() {
            let mut out = vec![0.0; 96];
            rms_norm(isa, &x, &w, 1e-6, &mut out);
            for i in 0..96 {
                let want = f64::from(x[i]) / (mean + 1e-6).sqrt() * f64::from(w[i]);
                assert!((f64::from(out[i]) - want).abs() < 1e-5, "{isa:?} {i}");
            }
            swiglu(isa, &x, &w, LANES, &mut out);
            for i in 0..96 {
                let want = x[i] / (1.0 + (-x[i]).exp()) * w[i];
                assert!((out[i] - want).abs() < 1e-5, "{isa:?} {i}");
            }
            let want: f32 = x.iter().map(|v| ((v - 6.0) * 0.5).exp()).sum();
            assert!((sum_exp(isa, &x, 6.0, 0.5) / want - 1.0).abs() < 1e-5);
        }
    }
}
