//! Floor 7: what the subcommands do and a library user may call. Nothing here prints.

mod check_report;
pub mod gradcheck;
mod gradient_checker;
pub mod memory;
mod net_direction;
pub mod npz;
pub mod open;
mod rates;
pub mod run;
mod slopes;
mod subject;
pub mod summary;
pub mod time;

pub use check_report::{Check, Report};
pub use gradient_checker::GradientChecker;
pub use open::NetFile;
pub use rates::Rate;
pub use subject::Subject;
