//! The least of many numbers.

use crate::kernels::LANES;

/// The least number; NaN does not count.
pub(crate) fn minimum(numbers: &[f32]) -> f32 {
    let mut least = [f32::INFINITY; LANES];
    let (groups, rest) = numbers.as_chunks::<LANES>();
    for group in groups {
        for (least, number) in least.iter_mut().zip(group) {
            *least = if *number < *least { *number } else { *least };
        }
    }
    least.iter().chain(rest).copied().fold(f32::INFINITY, f32::min)
}

/// The `n` least numbers with their places, in no order; all if there are fewer. NaN is never among them.
pub(crate) fn least(numbers: &[f32], n: usize) -> Vec<(f32, u32)> {
    let mut least: Vec<(f32, u32)> = Vec::with_capacity(2 * n.min(numbers.len()) + LANES);
    let mut threshold = f32::INFINITY;
    for (group, numbers) in numbers.chunks(LANES).enumerate() {
        // The rest of them is told from the least with vector instructions.
        if numbers.iter().map(|number| u32::from(*number <= threshold)).sum::<u32>() == 0 {
            continue;
        }
        for (i, number) in numbers.iter().enumerate() {
            if *number <= threshold {
                least.push((*number, (group * LANES + i) as u32));
            }
        }
        if least.len() > 2 * n {
            threshold = keep(&mut least, n);
        }
    }
    if least.len() > n {
        keep(&mut least, n);
    }
    least
}

/// Places of the `n` least numbers, from the least on.
pub(crate) fn in_order(numbers: &[f32], n: usize) -> Vec<u32> {
    let mut least = least(numbers, n);
    least.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    least.into_iter().map(|(_, place)| place).collect()
}

/// Keeps the `n` least, and returns the largest of them.
fn keep(numbers: &mut Vec<(f32, u32)>, n: usize) -> f32 {
    let Some(last) = n.checked_sub(1) else {
        numbers.clear();
        return f32::NEG_INFINITY;
    };
    numbers.select_nth_unstable_by(last, |a, b| a.0.total_cmp(&b.0));
    numbers.truncate(n);
    numbers[last].0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_least_are_found(mut numbers in prop::collection::vec(-5.0f32..5.0, 0..300), n in 0usize..40) {
            numbers.iter_mut().step_by(7).for_each(|number| *number = f32::NAN);
            let mut sorted: Vec<f32> = numbers.iter().copied().filter(|number| !number.is_nan()).collect();
            sorted.sort_unstable_by(f32::total_cmp);
            prop_assert_eq!(minimum(&numbers), sorted.first().copied().unwrap_or(f32::INFINITY));
            sorted.truncate(n);
            let found: Vec<f32> = in_order(&numbers, n).into_iter().map(|place| numbers[place as usize]).collect();
            prop_assert_eq!(found, sorted);
        }
    }
}
