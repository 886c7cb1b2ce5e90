//! Socket activation: what a service manager passed on to capsid goes on to the container.

/// The descriptors that a service manager passed on (sd_listen_fds(3)).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Activation {
    /// They come first after standard error.
    pub count: u32,
    /// What the container's process is told of them.
    pub env: Vec<String>,
}

impl Activation {
    pub fn of_this_process() -> Activation {
        let variable = |name: &str| std::env::var(name).ok();
        Activation::of(variable, std::process::id)
    }

    /// They are ours when LISTEN_PID says so; the container's process is 1 where it looks.
    fn of(variable: impl Fn(&str) -> Option<String>, own: impl Fn() -> u32) -> Activation {
        let number = |name: &str| variable(name)?.parse::<u32>().ok();
        match (number("LISTEN_PID"), number("LISTEN_FDS")) {
            (Some(pid), Some(count @ 1..=1024)) if pid == own() => {
                let mut env = vec![format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()];
                env.extend(
                    variable("LISTEN_FDNAMES").map(|names| format!("LISTEN_FDNAMES={names}")),
                );
                Activation { count, env }
            }
            _ => Activation::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_of_a_service_manager_are_passed_on_when_they_are_ours() {
        let variables = |pid: &'static str| {
            move |name: &str| match name {
                "LISTEN_PID" => Some(pid.to_owned()),
                "LISTEN_FDS" => Some("2".to_owned()),
                "LISTEN_FDNAMES" => Some("web:log".to_owned()),
                _ => None,
            }
        };
        let ours = Activation::of(variables("77"), || 77);
        assert_eq!(ours.count, 2);
        assert_eq!(
            ours.env,
            ["LISTEN_FDS=2", "LISTEN_PID=1", "LISTEN_FDNAMES=web:log"]
        );
        assert_eq!(
            Activation::of(variables("78"), || 77),
            Activation::default()
        );
        assert_eq!(Activation::of(|_| None, || 77), Activation::default());
    }
}
