use super::Target;
use crate::exit::{Failure, print, print_json};
use clap::{Args, Subcommand};
use regrow_control::status::Status;
use regrow_model::Name;
use regrow_serve::wire::RenderedTemplate;

/// List templates, show what they render to
#[derive(Args)]
pub(super) struct Template {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List templates
    Ls {
        /// JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Print what a template renders to now
    Render {
        /// The template
        name: Name,
    },
    /// Print what would change on disk if it were installed now
    Diff {
        /// The template
        name: Name,
    },
}

impl Template {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let client = target.client()?;
        match self.verb {
            Verb::Ls { json } => {
                let status: Status = client.get("/api/status").await?;
                if json { print_json(&status.templates) } else { print(&list(&status)) }
            }
            Verb::Render { name } => {
                let rendered: RenderedTemplate = client.get(&format!("/api/templates/{name}")).await?;
                let several = rendered.files.len() > 1;
                for file in &rendered.files {
                    if several {
                        print(&format!("==> {} <==\n", file.destination))?;
                    }
                    print(&file.content)?;
                }
                Ok(())
            }
            Verb::Diff { name } => {
                let rendered: RenderedTemplate = client.get(&format!("/api/templates/{name}")).await?;
                for file in &rendered.files {
                    let current = file.current.as_deref().unwrap_or("");
                    print(&unified(&file.destination, current, &file.content))?;
                }
                Ok(())
            }
        }
    }
}

fn list(status: &Status) -> String {
    let width = status.templates.iter().map(|template| template.name.as_str().len()).max().unwrap_or(0).max(8);
    let mut out = format!("{:<width$}  STATE    SET\n", "TEMPLATE");
    for template in &status.templates {
        let digest = template.digest.as_deref().unwrap_or("-");
        out.push_str(&format!("{:<width$}  {:<7}  {digest}\n", template.name.as_str(), template.state));
        if let Some(problem) = &template.problem {
            out.push_str(&format!("{:width$}    {}\n", "", problem.trim_end()));
        }
    }
    out
}

/// A unified diff with three lines around each change; empty when the texts are equal.
fn unified(name: &str, old: &str, new: &str) -> String {
    if old == new {
        return String::new();
    }
    similar::TextDiff::from_lines(old, new).unified_diff().header(name, &format!("{name} (rendered now)")).to_string()
}
