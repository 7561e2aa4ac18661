//! JSON by a schema.

use crate::Turn;

const ANSWER: &str = "Reply with one JSON value that is valid against this JSON Schema, and nothing else:";
const EXTRACT: &str = "The user gives a text. Reply with what it says, as one JSON value that is valid against the JSON Schema \
    below, and nothing else. Copy names, numbers and dates from the text, and invent nothing.";

/// What asks for JSON by `schema`: an answer to `prompt`, or what `prompt` says. `system` goes before all.
pub fn turns(prompt: &str, schema: &str, extracts: bool, system: Option<&str>) -> Vec<Turn> {
    let task = if extracts { EXTRACT } else { ANSWER };
    let before = system.map_or_else(String::new, |system| format!("{system}\n\n"));
    vec![Turn::system(format!("{before}{task}\n{schema}")), Turn::user(prompt)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_stands_before_the_text() {
        let turns = turns("hot", "{}", true, Some("Be brief."));
        assert!(turns[0].content.starts_with("Be brief.\n\nThe user gives"));
        assert!(turns[0].content.ends_with("\n{}"));
        assert_eq!(turns[1], Turn::user("hot"));
    }
}
