//! Suggestions for misspelt arguments: kept where they are near, removed where they would mislead.

use clap::Parser;
use clap::error::{ContextKind, ContextValue};

use super::Cli;
use crate::config::near;

/// A part of an error that names what was written, and the part that suggests another name for it.
const SUGGESTIONS: [(ContextKind, ContextKind); 3] = [
    (ContextKind::InvalidArg, ContextKind::SuggestedArg),
    (ContextKind::InvalidSubcommand, ContextKind::SuggestedSubcommand),
    (ContextKind::InvalidValue, ContextKind::SuggestedValue),
];

impl Cli {
    /// Parses the command line of this process. Ends the process with help, a version or an error if that is what the
    /// command line asks for.
    #[must_use]
    pub fn of_process() -> Cli {
        Cli::try_parse().unwrap_or_else(|error| only_near(error).exit())
    }
}

/// Removes suggestions that are not near to what was written. `clap` compares common letters, so it suggests
/// `--product-events-per-second` for `--port`.
fn only_near(mut error: clap::Error) -> clap::Error {
    for (written, suggested) in SUGGESTIONS {
        let Some(ContextValue::String(name)) = error.get(written) else { continue };
        let name = name.split('=').next().unwrap_or_default().to_owned();
        let names = match error.get(suggested) {
            Some(ContextValue::String(one)) => vec![one.clone()],
            Some(ContextValue::Strings(several)) => several.clone(),
            _ => continue,
        };
        match near(&name, names.iter().map(String::as_str)) {
            Some(near) => _ = error.insert(suggested, ContextValue::String(near.to_owned())),
            None => {
                error.remove(suggested);
                // It shows the suggested argument, too.
                error.remove(ContextKind::Usage);
            }
        }
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(arguments: &[&str]) -> String {
        let line = ["firehose"].iter().chain(arguments);
        only_near(Cli::try_parse_from(line).unwrap_err()).render().to_string()
    }

    #[test]
    fn a_slip_of_the_pen_is_corrected() {
        assert!(said(&["serve", "--lisen=1"]).contains("a similar argument exists: '--listen'"));
        assert!(said(&["srve"]).contains("a similar subcommand exists: 'serve'"));
    }

    #[test]
    fn another_word_is_not_corrected() {
        for words in [&["serve", "--prot", "1"][..], &["serve", "--database-url", "x"], &["start"]] {
            let text = said(words);
            assert!(!text.contains("similar") && !text.contains("per-second"), "{text}");
            assert!(text.contains("--help"), "{text}");
        }
    }
}
