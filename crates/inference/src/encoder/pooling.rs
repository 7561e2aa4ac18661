//! The rows of a text into one vector.

use super::config::Pooling;

/// Pools `rows` of `width` elements each; of no rows, zeros.
pub fn pool(rows: &[f32], width: usize, pooling: Pooling) -> Vec<f32> {
    if rows.is_empty() {
        return vec![0.0; width];
    }
    let count = (rows.len() / width) as f32;
    let fold = |f: fn(f32, f32) -> f32| {
        let mut rows = rows.chunks_exact(width);
        let mut vector = rows.next().map(<[f32]>::to_vec).unwrap_or_default();
        for row in rows {
            for (v, &x) in vector.iter_mut().zip(row) {
                *v = f(*v, x);
            }
        }
        vector
    };
    match pooling {
        Pooling::Cls => rows[..width].to_vec(),
        Pooling::LastToken => rows[rows.len() - width..].to_vec(),
        Pooling::Max => fold(f32::max),
        Pooling::Mean => fold(|a, b| a + b).into_iter().map(|v| v / count).collect(),
        Pooling::MeanSqrtLen => fold(|a, b| a + b).into_iter().map(|v| v / count.sqrt()).collect(),
    }
}

/// Gives `vector` length 1; a zero vector stays zero.
pub fn normalize(vector: &mut [f32]) {
    let squares: f64 = vector.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    let length = squares.sqrt().max(1e-12);
    for v in vector {
        *v = (f64::from(*v) / length) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_by_its_name() {
        let rows = [1.0, -2.0, 3.0, 4.0, 2.0, -5.0, 2.0, -1.0];
        assert_eq!(pool(&rows, 2, Pooling::Cls), [1.0, -2.0]);
        assert_eq!(pool(&rows, 2, Pooling::Mean), [2.0, -1.0]);
        assert_eq!(pool(&rows, 2, Pooling::Max), [3.0, 4.0]);
        assert_eq!(pool(&rows, 2, Pooling::MeanSqrtLen), [4.0, -2.0]);
        assert_eq!(pool(&rows, 2, Pooling::LastToken), [2.0, -1.0]);
    }

    #[test]
    fn normalizes_and_keeps_zero() {
        let mut vector = [3.0, -4.0];
        normalize(&mut vector);
        assert_eq!(vector, [0.6, -0.8]);
        let mut zero = [0.0; 2];
        normalize(&mut zero);
        assert_eq!(zero, [0.0; 2]);
    }
}
