//! Decoders of every family against what the original implementation computed.

#[allow(dead_code)]
#[path = "families/fixture.rs"]
mod fixture;
#[allow(dead_code)]
#[path = "families/gguf.rs"]
mod gguf;
mod tiny;

use fixture::{CONFIGS, Fixture, reference};
use pg_answer_inference::decoder::{GenerateOptions, Generation, Prompt, Sampling, StopReason};
use pg_answer_inference::language::Writer;
use pg_answer_inference::{Error, Pool};
use pg_answer_models::Kind;
use serde::Deserialize;
use tiny::options;

#[derive(Deserialize)]
struct Reference {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    input_ids: Vec<u32>,
    last_logits: Vec<f32>,
    greedy_ids: Vec<u32>,
    greedy_text: String,
    stop: String,
}

const DECODERS: [&str; 13] = [
    "gpt2",
    "gpt2_hub_names",
    "qwen2",
    "llama",
    "llama_rope3_bf16_sharded",
    "gemma3",
    "mistral",
    "qwen3",
    "smollm",
    "smollm3",
    "phi",
    "phi3",
    "phi4_mini",
];

fn load(name: &str, config: &str) -> Writer {
    Writer::load(&Fixture::new(name, Kind::Decoder, config).model).unwrap()
}

fn write(writer: &mut Writer, prompt: &Prompt, options: &GenerateOptions) -> (Generation, String) {
    let mut pieces = String::new();
    let generation = writer
        .generate(prompt, options, &Pool::new(2).unwrap(), &mut || Ok(()), &mut |piece| {
            pieces.push_str(piece);
            Ok(())
        })
        .unwrap();
    (generation, pieces)
}

#[test]
fn decoders_give_the_logits_and_greedy_text_of_the_origin() {
    for (name, config) in DECODERS.iter().flat_map(|name| CONFIGS.map(|config| (name, config))) {
        let mut writer = load(name, config);
        let cases = reference::<Reference>(name).cases;
        assert_eq!(cases.len(), 5);
        for case in cases {
            let prompt = writer.plain_prompt(&case.text).unwrap();
            assert_eq!(prompt.ids, case.input_ids, "{name}: {:?}", case.text);
            for threads in [1, 2] {
                let logits =
                    writer.prefill(&prompt.ids, &Pool::new(threads).unwrap(), &mut || Ok(())).unwrap();
                assert_eq!(logits.len(), case.last_logits.len());
                for (got, want) in logits.iter().zip(&case.last_logits) {
                    assert!((got - want).abs() < 3e-4, "{name} {config}, {:?}: {got} {want}", case.text);
                }
            }
            let (generation, pieces) = write(&mut writer, &prompt, &options(16));
            assert_eq!(generation.ids, case.greedy_ids, "{name} {config}, {:?}", case.text);
            // PostgreSQL has no text with U+0000.
            assert_eq!(
                generation.text,
                case.greedy_text.replace('\0', "\u{FFFD}"),
                "{name}, {:?}",
                case.text
            );
            assert_eq!(pieces, generation.text);
            let stop = if case.stop == "eos" { StopReason::EndOfText } else { StopReason::Length };
            assert_eq!(generation.stop, stop);
        }
    }
}

#[test]
fn a_prompt_that_begins_alike_is_read_from_where_they_part() {
    let mut writer = load("gemma3", CONFIGS[0]);
    let ids: Vec<u32> = (0..60).map(|i| (i * 37 + 11) % 990).collect();
    let prompt = |ids: &[u32]| Prompt { text: String::new(), ids: ids.to_vec(), fixed: 0 };
    let (first, _) = write(&mut writer, &prompt(&ids), &options(8));
    let (again, _) = write(&mut writer, &prompt(&ids), &options(8));
    assert_eq!((first.reused_tokens, again.reused_tokens), (0, 59));
    assert_eq!(again.ids, first.ids);
    let mut fresh = load("gemma3", CONFIGS[0]);
    let other = prompt(&[&ids[..30], &[5, 6, 7]].concat());
    let (reused, _) = write(&mut writer, &other, &options(8));
    assert_eq!(reused.reused_tokens, 30);
    assert_eq!(reused.ids, write(&mut fresh, &other, &options(8)).0.ids);
}

#[test]
fn a_check_stops_a_pass_and_the_next_is_right() {
    let mut writer = load("llama", CONFIGS[0]);
    let prompt = writer.plain_prompt("A Python client for the PostgreSQL API").unwrap();
    let want = write(&mut load("llama", CONFIGS[0]), &prompt, &options(8)).0;
    for limit in [1, 3, 7, 20, 60, 150] {
        let mut asked = 0;
        let mut check = || {
            asked += 1;
            if asked < limit { Ok(()) } else { Err(Error::Interrupted) }
        };
        let pool = Pool::new(1).unwrap();
        let stopped = writer.generate(&prompt, &options(8), &pool, &mut check, &mut |_| Ok(()));
        assert!(matches!(stopped, Err(Error::Interrupted)), "{limit}");
        assert_eq!(write(&mut writer, &prompt, &options(8)).0.ids, want.ids);
    }
}

#[test]
fn what_makes_no_sense_is_an_error() {
    let mut writer = load("gpt2", CONFIGS[0]);
    let pool = Pool::new(1).unwrap();
    let mut run = |ids: Vec<u32>, options: &GenerateOptions| {
        let prompt = Prompt { text: String::new(), ids, fixed: 0 };
        writer.generate(&prompt, options, &pool, &mut || Ok(()), &mut |_| Ok(())).err().unwrap()
    };
    assert!(matches!(run(vec![], &options(5)), Error::InvalidInput(_)));
    assert!(matches!(run(vec![1], &options(0)), Error::InvalidInput(_)));
    assert!(matches!(run(vec![1000], &options(5)), Error::Unsupported { .. }));
    assert!(matches!(run(vec![1; 160], &options(5)), Error::TooLong { tokens: 160, limit: 160 }));
    let small = GenerateOptions { max_memory: 5_000, ..options(5) };
    assert!(matches!(run(vec![1; 10], &small), Error::Memory { tokens: 15, needed: 11_520, limit: 5_000 }));
    let mut model = Fixture::new("llama_rope3_bf16_sharded", Kind::Decoder, CONFIGS[0]);
    model.remove("model-00002-of-00002.safetensors");
    assert!(Writer::load(&model.model).err().unwrap().to_string().contains("is missing"));
}

#[test]
fn stop_strings_end_a_text_before_them() {
    let mut writer = load("gpt2", CONFIGS[0]);
    let prompt = writer.plain_prompt("A Python client for the PostgreSQL API").unwrap();
    let whole = write(&mut writer, &prompt, &options(12)).0.text;
    let middle = whole.char_indices().nth(whole.chars().count() / 2).unwrap().0;
    let stop = vec![whole[middle..].chars().take(3).collect::<String>()];
    let (cut, pieces) = write(&mut writer, &prompt, &GenerateOptions { stop: stop.clone(), ..options(12) });
    assert_eq!(cut.stop, StopReason::StopString);
    assert_eq!(cut.text, whole[..whole.find(&stop[0]).unwrap()]);
    assert_eq!(pieces, cut.text);
}

/// Natural logarithm of the probability of token `id` by `logits`.
fn logprob(logits: &[f32], id: u32) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|x| f64::from(x - most).exp()).sum();
    f64::from(logits[id as usize] - most) - total.ln()
}

#[test]
fn replies_are_weighed_token_by_token() {
    for name in ["gpt2", "llama", "qwen3", "phi3"] {
        let (mut writer, pool) = (load(name, CONFIGS[0]), Pool::new(1).unwrap());
        let weigh = |writer: &mut Writer, prompt: &Prompt, answers: &[&str]| {
            writer.weigh(prompt, answers, &pool, &mut || Ok(())).unwrap()
        };
        let prompt = writer.plain_prompt("The server").unwrap();
        // Without the tokens that stand before every text.
        let frame = writer.plain_prompt("").unwrap().ids.len();
        let begin = &writer.plain_prompt(" waits").unwrap().ids[frame..];
        let further = Prompt { text: String::new(), ids: [&prompt.ids[..], begin].concat(), fixed: 0 };
        let whole = weigh(&mut writer, &prompt, &[" waits long", " long"]);
        let rest = weigh(&mut writer, &further, &[" long"])[0];
        let mut ids = prompt.ids.clone();
        let mut expected = rest;
        for id in begin {
            let logits = writer.prefill(&ids, &Pool::new(1).unwrap(), &mut || Ok(())).unwrap();
            expected += logprob(&logits, *id);
            ids.push(*id);
        }
        assert!(whole.iter().all(|weight| *weight < 0.0), "{name}: {whole:?}");
        assert!((whole[0] - expected).abs() < 1e-3, "{name}: {whole:?}, not {expected}");
        assert_eq!(weigh(&mut writer, &prompt, &[" long", " waits long"]), [whole[1], whole[0]], "{name}");
        assert!(matches!(
            writer.weigh(&prompt, &[""], &Pool::new(1).unwrap(), &mut || Ok(())),
            Err(Error::InvalidInput(_))
        ));
    }
}

#[test]
fn json_of_every_family_keeps_to_its_schema() {
    let schema = serde_json::json!({ "type": "array", "minItems": 1, "maxItems": 2, "items": { "enum": ["yes", "no", null] } });
    for name in DECODERS {
        let (mut writer, pool) = (load(name, CONFIGS[0]), Pool::new(1).unwrap());
        let prompt = writer.plain_prompt("The server").unwrap();
        for seed in 0..3 {
            let mut json = writer.json(&schema, &mut || Ok(())).unwrap();
            let sampling = Sampling { temperature: 2.0, seed, ..Sampling::default() };
            let options = GenerateOptions { sampling, ..options(40) };
            let written = writer
                .generate_within(&prompt, &options, Some(&mut json), &pool, &mut || Ok(()), &mut |_| Ok(()))
                .unwrap();
            let value: serde_json::Value = serde_json::from_str(&written.text)
                .unwrap_or_else(|e| panic!("{name}: {e}: {}", written.text));
            let items = value.as_array().unwrap();
            assert!((1..=2).contains(&items.len()), "{name}: {value}");
            assert!(
                items.iter().all(|item| item.is_null() || item == "yes" || item == "no"),
                "{name}: {value}"
            );
        }
    }
}
