//! Refuses every statement that does more than read the views.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, Result};

/// The maximum length of a value in bytes: aggregates such as `group_concat` build it in memory.
const VALUE_BYTES_MAX: i32 = 64 << 20;
/// The maximum length of a statement in bytes: enough for a list of ten thousand ids. It also limits the depth of an
/// expression, for which SQLite is built without a limit.
pub(super) const STATEMENT_BYTES_MAX: usize = 256 << 10;

/// Pragmas that only describe.
const PRAGMAS: [&str; 10] = [
    "collation_list",
    "compile_options",
    "database_list",
    "encoding",
    "function_list",
    "module_list",
    "pragma_list",
    "table_info",
    "table_list",
    "table_xinfo",
];

/// Why the last statement was refused.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusal(Arc<ArcSwapOption<String>>);

impl Refusal {
    /// Returns the reason, and forgets it.
    pub(super) fn take(&self) -> Option<String> {
        self.0.swap(None).map(|reason| reason.to_string())
    }
}

/// Restricts a connection. Its tables must exist.
pub(super) fn restrict(connection: &mut Connection) -> Result<Refusal> {
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX)?;
    connection.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, STATEMENT_BYTES_MAX as i32)?;
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    let refusal = Refusal::default();
    let reason = refusal.clone();
    connection.authorizer(Some(move |context: AuthContext<'_>| match refused(&context.action) {
        None => Authorization::Allow,
        Some(why) => {
            reason.0.store(Some(Arc::new(why)));
            Authorization::Deny
        }
    }))?;
    Ok(refusal)
}

/// Returns the reason why an action is refused.
fn refused(action: &AuthAction<'_>) -> Option<String> {
    let what = match action {
        AuthAction::Read { table_name, .. } if *table_name == "sqlite_dbpage" => {
            "sqlite_dbpage is refused".to_owned()
        }
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => return None,
        AuthAction::Function { function_name } => {
            match function_name.eq_ignore_ascii_case("load_extension") {
                false => return None,
                true => "load_extension is refused".to_owned(),
            }
        }
        AuthAction::Pragma { pragma_name, pragma_value } => {
            let is_known = PRAGMAS.iter().any(|known| known.eq_ignore_ascii_case(pragma_name));
            let sets = pragma_value.is_some() && !pragma_name.to_ascii_lowercase().starts_with("table_");
            if is_known && !sets {
                return None;
            }
            return Some(format!(
                "PRAGMA {pragma_name} is refused: only pragmas that describe are permitted ({})",
                PRAGMAS.join(", ")
            ));
        }
        AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => {
            return Some(
                "transactions are refused: each statement sees its own snapshot of every shard".to_owned(),
            );
        }
        // A new table is an insert into the schema.
        AuthAction::Insert { table_name } if table_name.starts_with("sqlite_") => {
            "CREATE is refused".to_owned()
        }
        AuthAction::Delete { table_name } if table_name.starts_with("sqlite_") => {
            "DROP is refused".to_owned()
        }
        AuthAction::Insert { .. } => "INSERT is refused".to_owned(),
        AuthAction::Update { .. } => "UPDATE is refused".to_owned(),
        AuthAction::Delete { .. } => "DELETE is refused".to_owned(),
        AuthAction::Attach { .. } | AuthAction::Detach { .. } => "ATTACH and DETACH are refused".to_owned(),
        AuthAction::DropTable { .. } | AuthAction::DropView { .. } | AuthAction::DropVtable { .. } => {
            "DROP is refused".to_owned()
        }
        AuthAction::AlterTable { .. } => "ALTER is refused".to_owned(),
        AuthAction::Analyze { .. } | AuthAction::Reindex { .. } => {
            "ANALYZE and REINDEX are refused".to_owned()
        }
        _ => "the statement is refused".to_owned(),
    };
    Some(format!("{what}: firehose sql only reads (a WITH clause can name intermediate results)"))
}
