//! Conversations: what was said before, as much of it as fits, and what a follow-up question means by itself.

use serde_json::Value;
use unicode_segmentation::UnicodeSegmentation;

use crate::Message;
use crate::words::words;

/// Tokens that the frame of a message takes in the prompt, at most.
const FRAME_TOKENS: usize = 8;
/// How many times as long as question and question before a question by itself may be.
const LONGEST: usize = 2;

/// The messages of `[{"role": "user", "content": "…"}, …]`: a system message or none, then turns that end with the user's.
///
/// # Errors
/// What is wrong, in a sentence.
pub fn read(messages: &Value) -> Result<Vec<Message>, String> {
    let Some(list) = messages.as_array() else {
        return Err("messages must be a JSON array".to_owned());
    };
    let mut read = Vec::with_capacity(list.len());
    for (i, message) in list.iter().enumerate() {
        let number = i + 1;
        let field = |name| {
            let text = message.get(name).and_then(Value::as_str);
            text.ok_or_else(|| format!("message {number} has no text \"{name}\""))
        };
        let role = match field("role")? {
            "system" if i == 0 => "system",
            "system" => return Err(format!("message {number} is of the system, but not the first")),
            "user" => "user",
            "assistant" => "assistant",
            other => return Err(format!("message {number} has the role \"{other}\"")),
        };
        read.push(Message { role, content: field("content")?.to_owned() });
    }
    match read.last() {
        Some(last) if last.role == "user" => Ok(read),
        Some(_) => Err("the last message is not the user's".to_owned()),
        None => Err("there are no messages".to_owned()),
    }
}

/// `messages` without the oldest turns, so that they fit into `budget` tokens: the system message and the last one stay,
/// whatever they take. `count` gives the tokens of a text.
///
/// # Errors
/// The first error of `count`.
pub fn trim<E>(
    mut messages: Vec<Message>,
    budget: usize,
    mut count: impl FnMut(&str) -> Result<usize, E>,
) -> Result<Vec<Message>, E> {
    let mut cost = |m: &Message| Ok(count(&m.content)? + FRAME_TOKENS);
    let first = usize::from(messages.first().is_some_and(|m| m.role == "system"));
    let last = messages.len().saturating_sub(1);
    let mut used = match messages.get(..first) {
        Some([system]) if last > 0 => cost(system)?,
        _ => 0,
    };
    let mut kept = last.max(first);
    for (i, message) in messages.iter().enumerate().skip(first).rev() {
        used += cost(message)?;
        if used > budget && i < last {
            break;
        }
        // A turn begins with what the user says.
        if message.role == "user" {
            kept = i;
        }
    }
    messages.drain(first..kept);
    Ok(messages)
}

/// What a model is asked in order to say the last of `messages` so that it stands by itself.
pub fn rewriting(messages: &[Message]) -> Vec<Message> {
    const TASK: &str = "You rewrite the last question of a conversation so that it can be understood without the conversation. \
        Replace words such as it, they, that or there by what they stand for. Do not answer the question. Reply with the \
        question only, in its language.";
    let mut transcript = String::new();
    for message in messages {
        transcript.push_str(if message.role == "assistant" { "Answer: " } else { "Question: " });
        transcript.push_str(message.content.trim());
        transcript.push('\n');
    }
    transcript.push_str("Last question, rewritten:");
    vec![Message { role: "system", content: TASK.to_owned() }, Message { role: "user", content: transcript }]
}

/// The last of `messages` by itself: what the model has `written`, where it says nothing that was not said and keeps
/// half of what is asked; otherwise the question after what was asked before.
pub fn standalone(written: &str, messages: &[Message]) -> String {
    let mut asked = messages.iter().rev().filter(|m| m.role == "user").map(|m| m.content.trim());
    let question = asked.next().unwrap_or_default();
    let both = match asked.next() {
        // That may have been put together in the same way: its first sentence names what all are about.
        Some(before) => {
            let topic = before.split_sentence_bounds().next().unwrap_or_default();
            format!("{} {question}", topic.trim())
        }
        None => question.to_owned(),
    };
    let written = written.trim().lines().next().unwrap_or_default().trim();
    let said = messages.iter().fold(words(""), |said, m| &said | &words(&m.content));
    let rewritten = words(written);
    let invented = rewritten.difference(&said).count();
    let asked = words(question);
    let kept = asked.intersection(&rewritten).count();
    let is_short = written.chars().count() <= LONGEST * both.chars().count();
    if is_short && invented * 5 <= rewritten.len() && kept > 0 && 2 * kept >= asked.len() {
        written.to_owned()
    } else {
        both
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use serde_json::json;

    use super::*;

    fn message(role: &'static str, content: &str) -> Message {
        Message { role, content: content.to_owned() }
    }

    fn talk() -> Vec<Message> {
        vec![
            message("system", "Be brief."),
            message("user", "How hot for green tea?"),
            message("assistant", "70 degrees."),
            message("user", "And how long?"),
        ]
    }

    #[test]
    fn reads_messages_and_says_what_is_wrong() {
        let written = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi", "name": "x"}]);
        assert_eq!(read(&written).unwrap(), [message("system", "Be brief."), message("user", "Hi")]);
        for (wrong, says) in [
            (json!(null), "array"),
            (json!({"role": "user", "content": "Hi"}), "array"),
            (json!([]), "no messages"),
            (json!(["Hi"]), "message 1 has no text \"role\""),
            (json!([{"role": "user"}]), "message 1 has no text \"content\""),
            (json!([{"role": "user", "content": 7}]), "message 1 has no text \"content\""),
            (json!([{"role": "robot", "content": ""}]), "\"robot\""),
            (json!([{"role": "user", "content": ""}, {"role": "system", "content": ""}]), "message 2"),
            (
                json!([{"role": "user", "content": ""}, {"role": "assistant", "content": ""}]),
                "not the user's",
            ),
            (json!([{"role": "system", "content": ""}]), "not the user's"),
        ] {
            let error = read(&wrong).unwrap_err();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }

    #[test]
    fn the_oldest_turns_go_first() {
        let characters = |text: &str| Ok::<_, Infallible>(text.chars().count());
        let lengths = |budget| trim(talk(), budget, characters).unwrap().len();
        let all: usize = talk().iter().map(|m| m.content.len() + FRAME_TOKENS).sum();
        assert_eq!([lengths(all), lengths(all - 1), lengths(0)], [4, 2, 2]);
        let kept = trim(talk(), all - 1, characters).unwrap();
        assert_eq!(kept, [message("system", "Be brief."), message("user", "And how long?")]);
        assert_eq!(trim(vec![message("user", "Hi")], 0, characters).unwrap().len(), 1);
        assert!(trim(Vec::new(), 9, characters).unwrap().is_empty());
    }

    #[test]
    fn a_rewritten_question_says_nothing_new() {
        let talk = &talk()[1..];
        let of = |written| standalone(written, talk);
        assert_eq!(of(" And how long for green tea?\n"), "And how long for green tea?");
        let both = "How hot for green tea? And how long?";
        for written in [
            "",
            "Green tea",
            "How hot for green tea?",
            "Steep it three minutes in a warm porcelain pot, and how long?",
        ] {
            assert_eq!(of(written), both, "{written}");
        }
        assert_eq!(standalone("", &talk[2..]), "And how long?");
        let third = [message("user", both), message("user", "With milk?")];
        assert_eq!(standalone("", &third), "How hot for green tea? With milk?");
        let asked = &rewriting(talk)[1].content;
        assert!(asked.contains("Answer: 70 degrees.\nQuestion: And how long?\n"), "{asked}");
    }
}
