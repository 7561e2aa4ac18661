//! What the model is asked: a system and a user message made from templates.

use minijinja::{Environment, Value, context};
use pg_answer_text::language::Language;

use crate::Passage;
use crate::refusal::refusal;

/// One turn of a conversation, as chat templates take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// What was said.
    pub content: String,
}

/// Steps that a template may take: some for each passage.
const FUEL: u64 = 1_000_000;

/// A pair of prompt templates in the language of Jinja.
pub struct Prompts {
    environment: Environment<'static>,
}

impl Prompts {
    /// The templates `system` and `message` are rendered from `query`, its `language` ("English" or "Chinese"), `passages` (each
    /// with `title` and `content`) and `refusal`.
    ///
    /// # Errors
    /// What is wrong with a template.
    pub fn new(system: &str, message: &str) -> Result<Self, String> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        for (name, source) in [("system", system), ("message", message)] {
            environment.add_template_owned(name, source.to_owned()).map_err(|e| e.to_string())?;
        }
        Ok(Self { environment })
    }

    /// The messages that ask for an answer to `query`, which is in `language`, from `passages`, numbered from 1; with
    /// `question_first` the user's begins with the question, whatever the template says.
    ///
    /// # Errors
    /// What is wrong with a template.
    pub fn messages(
        &self,
        query: &str,
        language: Language,
        passages: &[Passage],
        question_first: bool,
    ) -> Result<Vec<Message>, String> {
        let passages: Vec<Value> = passages
            .iter()
            .map(|p| context! { title => p.title.as_deref(), content => p.content.as_str() })
            .collect();
        let values = context! { query, passages, language => language.name(), refusal => refusal(language) };
        let render = |name| {
            let template = self.environment.get_template(name).map_err(|e| e.to_string())?;
            template.render(&values).map_err(|e| e.to_string())
        };
        let mut message = render("message")?;
        if question_first {
            let label = match language {
                Language::English => "Question: ",
                Language::Chinese => "问题：",
            };
            message = format!("{label}{query}\n\n{message}");
        }
        Ok(vec![
            Message { role: "system", content: render("system")? },
            Message { role: "user", content: message },
        ])
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
        let message = "{% for p in passages %}[{{ loop.index }}]{% if p.title %} {{ p.title }}{% endif %}\n{{ p.content }}\n{% endfor %}\
                       Question: {{ query }}";
        let prompts = Prompts::new("Say: {{ refusal }}", message).unwrap();
        let messages = prompts.messages("why \"<\"?", Language::English, &passages, false).unwrap();
        assert_eq!(messages[0].role, "system");
        assert!(messages[0].content.contains(refusal(Language::English)));
        let user = &messages[1].content;
        assert!(user.contains("[1] VACUUM\na < b & {{ c }} {% raw %}\n"), "{user}");
        assert!(user.contains("[2]\nsecond\n"), "{user}");
        assert!(user.ends_with("Question: why \"<\"?"), "{user}");
        let again = prompts.messages("why \"<\"?", Language::English, &passages, true).unwrap();
        assert_eq!(again[0], messages[0]);
        assert_eq!(again[1].content, format!("Question: why \"<\"?\n\n{user}"));
    }

    #[test]
    fn a_wrong_template_is_an_error() {
        assert!(Prompts::new("{% if %}", "").is_err());
        assert!(
            Prompts::new("{{ nosuch.field }}", "")
                .unwrap()
                .messages("", Language::English, &[], false)
                .is_err()
        );
        let endless = "{% for i in range(10000) %}{% for j in range(10000) %}x{% endfor %}{% endfor %}";
        assert!(Prompts::new(endless, "").unwrap().messages("", Language::English, &[], false).is_err());
    }
}
