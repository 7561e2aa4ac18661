//! Thousands of broken copies of a tiny model: each is loaded or refused, none panics.

#[path = "encoder/model.rs"]
#[allow(dead_code)]
mod model;

use model::{FILES, TinyModel};
use pg_answer_inference::encoder::Kernels;
use pg_answer_inference::{Encoder, Pool, Role};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;

/// Loads the model and, when it can be loaded, uses it. Any result will do; a panic fails the test.
fn try_model(model: &TinyModel) {
    for kernels in [Kernels::Packed, Kernels::Exact] {
        let Ok(encoder) = Encoder::load_for(&model.open(), kernels) else { continue };
        let Ok(tokens) = encoder.tokenize("Vacuum [MASK] 石英砂 reclaims", Role::Query) else { continue };
        let pool = Pool::new(1).unwrap();
        if let Ok(vectors) = encoder.embed(&[tokens], &pool, &mut || Ok(())) {
            assert!(vectors[0].len() == encoder.dims() && vectors[0].iter().all(|x| x.is_finite()));
        }
    }
}

#[derive(Debug, Clone)]
enum Damage {
    Cut(Index),
    Set(Vec<(Index, u8)>),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<Index>().prop_map(Damage::Cut),
        prop::collection::vec((any::<Index>(), any::<u8>()), 1..8).prop_map(Damage::Set),
        (any::<Index>(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(i, b)| Damage::Insert(i, b)),
        (any::<Index>(), 1..40usize).prop_map(|(i, n)| Damage::Remove(i, n)),
    ]
}

fn apply(damage: &Damage, content: &mut Vec<u8>, within: usize) {
    let within = within.min(content.len()).max(1);
    match damage {
        Damage::Cut(at) => content.truncate(at.index(within)),
        Damage::Set(bytes) => bytes.iter().for_each(|(at, b)| content[at.index(within)] = *b),
        Damage::Insert(at, bytes) => {
            let at = at.index(within);
            content.splice(at..at, bytes.iter().copied());
        }
        Damage::Remove(at, n) => {
            let at = at.index(within);
            content.drain(at..(at + n).min(content.len()));
        }
    }
}

/// Values that stand where others are expected.
fn odd_value() -> impl Strategy<Value = Value> {
    let odd = [
        "null",
        "true",
        "0",
        "1",
        "-1",
        "2",
        "7",
        "1e12",
        "1e300",
        "4294967295",
        "9223372036854775807",
        "18446744073709551615",
        "\"\"",
        "\"x\"",
        "[]",
        "{}",
        "[[]]",
        "[1, 2]",
        "[0, 0]",
        "\"F64\"",
        "\"F16\"",
        "\"..\"",
    ];
    prop::sample::select(odd.to_vec()).prop_map(|text| serde_json::from_str(text).unwrap())
}

/// All places in `value`.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// Puts `new` at the place number `*at`, counted from 0 in depth-first order.
fn put(value: &mut Value, at: &mut usize, new: &Value) -> bool {
    if *at == 0 {
        *value = new.clone();
        return true;
    }
    *at -= 1;
    match value {
        Value::Array(items) => items.iter_mut().any(|v| put(v, at, new)),
        Value::Object(fields) => fields.values_mut().any(|v| put(v, at, new)),
        _ => false,
    }
}

/// As [`put`] at a place picked by `at`; the long vocabulary of a tokenizer counts as one place.
fn put_somewhere(value: &mut Value, at: Index, new: &Value) {
    let vocabulary = value.pointer_mut("/model/vocab").map(Value::take);
    let places = count(value);
    put(value, &mut at.index(places), new);
    if let (Some(vocabulary), Some(place)) = (vocabulary, value.pointer_mut("/model/vocab"))
        && place.is_null()
    {
        *place = vocabulary;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, max_shrink_iters: 50, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn broken_bytes_never_panic(file in prop::sample::select(FILES.to_vec()), damage in damage()) {
        let mut model = TinyModel::new();
        let mut content = model.get(file);
        let whole = content.len();
        apply(&damage, &mut content, whole);
        model.set(file, &content);
        try_model(&model);
    }

    #[test]
    fn a_broken_header_of_weights_never_panics(damage in damage()) {
        let mut model = TinyModel::new();
        let mut content = model.get(FILES[0]);
        let header = 8 + u64::from_le_bytes(*content.first_chunk().unwrap()) as usize;
        apply(&damage, &mut content, header);
        model.set(FILES[0], &content);
        try_model(&model);
    }

    #[test]
    fn odd_values_never_panic(
        file in prop::sample::select(vec![1usize, 2, 2, 2, 3, 4, 5]), at in any::<Index>(), new in odd_value()
    ) {
        let mut model = TinyModel::new();
        model.edit(FILES[file], |json| put_somewhere(json, at, &new));
        try_model(&model);
    }

    #[test]
    fn odd_values_in_the_header_never_panic(at in any::<Index>(), new in odd_value()) {
        let mut model = TinyModel::new();
        model.edit_header(|header| {
            let mut json = Value::Object(header.clone());
            put_somewhere(&mut json, at, &new);
            if let Value::Object(changed) = json {
                *header = changed;
            }
        });
        try_model(&model);
    }
}
