//! What happens to a product on its way to the next: activation, rounding.

use super::product::{Line, Wide, narrow_row};
use super::{dispatch, mul_add};

/// e^x with a relative error below 2e-7; 0 below -87.3, where the result would be subnormal. No branches.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2, so e^x = 2^n · e^r; e^r is its Taylor polynomial of degree 6 and
/// 2^n is built from its exponent bits.
#[inline(always)]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    // Adding and subtracting 1.5·2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts: the first has so few bits that n times it is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(-87.3, 88.0);
    let shifted = mul_add::<FMA>(clamped, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = mul_add::<FMA>(n, -LN2_LOW, mul_add::<FMA>(n, -LN2_HIGH, clamped));
    let mut p = 1.0 / 720.0;
    for c in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = mul_add::<FMA>(p, r, c);
    }
    // The low bits of `shifted` are n in two's complement. For NaN they mean nothing, but `p` is NaN then.
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if x < -87.3 { 0.0 } else { p * power }
}

/// Where Φ is 0 or 1 for [`gelu`].
pub const GELU_END: f32 = 4.0;
/// The polynomial of [`gelu`] in x², the highest power first.
pub const GELU: [f32; 7] =
    [2.258_861_5e-8, -1.588_85e-6, 4.776_438e-5, -8.121_927e-4, 8.763_718e-3, -6.455_447_5e-2, 0.397_870_3];

/// x·Φ(x), the exact GELU (Hendrycks and Gimpel 2016), with an absolute error below 2e-4, a tenth of what rounding
/// 1 to bfloat16 may lose. Φ(x) - 1/2 is an odd polynomial on [-4, 4], fitted for the least greatest error of the
/// product, and continued by ±1/2.
#[inline(always)]
fn gelu<const FMA: bool>(x: f32) -> f32 {
    let t = x.clamp(-GELU_END, GELU_END);
    let z = t * t;
    let [mut p, rest @ ..] = GELU;
    for c in rest {
        p = mul_add::<FMA>(p, z, c);
    }
    x * mul_add::<FMA>(t, p, 0.5)
}

/// tanh(u) = 1 - 2/(e^(2u) + 1).
#[inline(always)]
fn gelu_tanh<const FMA: bool>(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    let u = SQRT_2_OVER_PI * mul_add::<FMA>(0.044_715 * x * x, x, x);
    0.5 * x * (2.0 - 2.0 / (exp::<FMA>(2.0 * u) + 1.0))
}

#[inline(always)]
fn map(product: &[Wide], out: &mut [Line], f: impl Fn(f32) -> f32) {
    for (row, out) in product.iter().zip(out) {
        let mut values = *row;
        for x in &mut values {
            *x = f(*x);
        }
        *out = narrow_row(&values);
    }
}

#[inline(always)]
fn lines_body<const FMA: bool>(product: &[Wide], out: &mut [Line]) {
    map(product, out, |x| x);
}

#[inline(always)]
fn gelu_lines_body<const FMA: bool>(product: &[Wide], out: &mut [Line]) {
    map(product, out, gelu::<FMA>);
}

#[inline(always)]
fn gelu_tanh_lines_body<const FMA: bool>(product: &[Wide], out: &mut [Line]) {
    map(product, out, gelu_tanh::<FMA>);
}

#[inline(always)]
fn relu_lines_body<const FMA: bool>(product: &[Wide], out: &mut [Line]) {
    // Not `max`, which drops NaN.
    map(product, out, |x| if x < 0.0 { 0.0 } else { x });
}

dispatch! {
    /// out = product, as lines.
    lines = lines_body | super::avx512::lines, (product: &[Wide], out: &mut [Line])
}
dispatch! {
    /// out = gelu(product), as lines.
    gelu_lines = gelu_lines_body | super::avx512::gelu_lines, (product: &[Wide], out: &mut [Line])
}
dispatch! {
    /// As [`gelu_lines`], with the tanh approximation of GELU.
    gelu_tanh_lines = gelu_tanh_lines_body(product: &[Wide], out: &mut [Line])
}
dispatch! {
    /// As [`gelu_lines`], with max(x, 0).
    relu_lines = relu_lines_body(product: &[Wide], out: &mut [Line])
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::product::widen;
    use super::*;

    /// The series of erf, in double precision.
    fn erf_oracle(x: f64) -> f64 {
        if x.abs() > 5.0 {
            return x.signum();
        }
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    fn inputs() -> impl Iterator<Item = f32> {
        (-12_000..=12_000).map(|i| i as f32 * 1e-3).chain([0.0, -0.0, 1e-30, -60.0, 60.0, 1e30, -1e30])
    }

    #[test]
    fn exp_is_near_the_exact_one() {
        for x in inputs().filter(|x| x.abs() < 85.0) {
            let want = f64::from(x).exp();
            for got in [exp::<false>(x), exp::<true>(x)] {
                assert!((f64::from(got) / want - 1.0).abs() < 3e-7, "exp({x}) = {got}, not {want}");
            }
        }
        assert_eq!(exp::<false>(-1e30), 0.0);
        assert_eq!(exp::<false>(f32::NEG_INFINITY), 0.0);
        assert!(exp::<false>(f32::NAN).is_nan());
    }

    #[test]
    fn gelu_is_near_the_exact_one() {
        for x in inputs() {
            let exact = f64::from(x) * 0.5 * (1.0 + erf_oracle(f64::from(x) / std::f64::consts::SQRT_2));
            for got in [gelu::<false>(x), gelu::<true>(x)] {
                let error = (f64::from(got) - exact).abs();
                assert!(error < 2e-4 || error < 1e-6 * exact.abs(), "gelu({x}) = {got}, not {exact}");
            }
        }
        assert!(gelu::<true>(f32::NAN).is_nan());
    }

    #[test]
    fn every_level_rounds_what_the_oracle_says() {
        let row = |r: usize| std::array::from_fn(|c| ((r * 32 + c) * 7919 % 1601) as f32 * 0.01 - 8.0);
        let product: Vec<Wide> = (0..50).map(row).collect();
        for level in Level::available() {
            let mut all = [const { [Line([0; 16]); 50] }; 4];
            let [plain, relu, exact, tanh] = &mut all;
            lines(level, &product, plain);
            relu_lines(level, &product, relu);
            gelu_lines(level, &product, exact);
            gelu_tanh_lines(level, &product, tanh);
            for r in 0..50 {
                for c in 0..32 {
                    let x = f64::from(product[r][c]);
                    let at = |lines: &[Line]| {
                        let (low, high) = widen(lines[r].0[c % 16]);
                        f64::from(if c < 16 { low } else { high })
                    };
                    let near = |got: f64, want: f64| (got - want).abs() <= want.abs() / 256.0 + 3e-4;
                    assert!(near(at(plain), x), "{level:?}");
                    assert!(near(at(relu), x.max(0.0)), "{level:?}");
                    assert!(near(at(exact), 0.5 * x * (1.0 + erf_oracle(x / std::f64::consts::SQRT_2))));
                    let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
                    assert!(near(at(tanh), 0.5 * x * (1.0 + u.tanh())), "{level:?}");
                }
            }
        }
    }
}
