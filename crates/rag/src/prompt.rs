//! What the model is asked: a system and a user message made from templates.

use minijinja::{Environment, Value, context};

use crate::{Passage, REFUSAL};

/// One turn of a conversation, as chat templates take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// What was said.
    pub content: String,
}

/// The prompt templates.
pub struct Prompts {
    environment: Environment<'static>,
}

impl Default for Prompts {
    fn default() -> Self {
        Self::new()
    }
}

impl Prompts {
    /// The templates that come with the crate.
    pub fn new() -> Self {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        let templates = [
            ("system", include_str!("../templates/system.jinja")),
            ("user", include_str!("../templates/user.jinja")),
        ];
        for (name, source) in templates {
            environment.add_template(name, source).expect("the crate's own templates are valid");
        }
        Self { environment }
    }

    /// The messages that ask for an answer to `query` from `passages`, numbered from 1.
    pub fn messages(&self, query: &str, passages: &[Passage]) -> Vec<Message> {
        let passages: Vec<Value> = passages
            .iter()
            .map(|p| context! { title => p.title.as_deref(), content => p.content.as_str() })
            .collect();
        let values = context! { query, passages, refusal => REFUSAL };
        let render = |name| {
            let template = self.environment.get_template(name).expect("added in `new`");
            template.render(&values).expect("the crate's own templates render from these values")
        };
        vec![
            Message { role: "system", content: render("system") },
            Message { role: "user", content: render("user") },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_the_passages_and_leaves_text_as_it_is() {
        let passages = [
            Passage { title: Some("VACUUM".into()), content: "a < b & {{ c }} {% raw %}".into() },
            Passage { title: None, content: "second".into() },
        ];
        let messages = Prompts::new().messages("why \"<\"?", &passages);
        assert_eq!(messages[0].role, "system");
        assert!(messages[0].content.contains(REFUSAL));
        let user = &messages[1].content;
        assert!(user.contains("[1] VACUUM\na < b & {{ c }} {% raw %}\n"), "{user}");
        assert!(user.contains("[2]\nsecond\n"), "{user}");
        assert!(user.ends_with("Question: why \"<\"?"), "{user}");
    }
}
