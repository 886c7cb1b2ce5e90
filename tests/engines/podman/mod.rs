//! Podman, root's and an ordinary user's own: conmon drives the runtime, with next to no environment.

mod confined;
mod handed;
mod life;
mod outlived;
mod pods;

use std::ops::Deref;

use crate::alike::confined::*;
use crate::alike::kept::*;
use crate::alike::life::*;
use crate::alike::limited::*;
use crate::alike::shared::*;
use crate::boxes::Boxes;
use crate::docs::snippet;
use crate::goods::ROOTFS;
use crate::session::Begin;
use confined::*;
use handed::*;
use life::*;
use outlived::*;
use pods::*;

/// What the sessions need beside the snippet: no systemd, no image from elsewhere.
const HERE: &str = r#"
[containers]
init_path = "/usr/bin/tini-static"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
init_path = "/usr/bin/tini-static"
infra_image = "localhost/pause:test"
infra_command = ""
"#;

engine! { ROOTS, "podman", Podman, ["podman", "conmon", "iptables"],
    the_engine_knows_its_runtime
    a_container_prints_and_ends_with_its_status
    a_missing_program_ends_with_127
    a_program_that_may_not_be_executed_ends_with_126
    a_terminal_has_its_size_its_keys_and_its_status
    a_terminal_is_left_and_taken_up_again
    stdin_reaches_the_program
    logs_and_attach_show_what_was_printed
    exec_has_its_own_status_user_folder_and_environment
    exec_of_what_can_not_be_executed_says_so
    a_program_of_no_known_format_is_told
    exec_may_have_every_privilege
    exec_with_a_terminal
    pause_and_unpause
    a_paused_container_is_ended
    stats_and_top_show_the_processes
    top_by_the_containers_own_columns
    kill_and_stop_send_their_signals
    restart_begins_anew
    a_failing_container_is_restarted_as_often_as_allowed
    a_healthcheck_is_run
    a_published_port_is_reached
    a_network_with_a_name_gives_addresses
    network_none_host_and_another_containers
    volumes_and_binds_keep_what_is_written
    mounts_go_in_and_out_as_asked
    a_folder_bound_on_a_file_is_refused
    init_reaps_and_forwards
    users_and_groups
    capabilities_are_added_and_dropped
    a_read_only_root_with_a_tmpfs
    no_new_privileges
    seccomp_profiles_of_the_engine_and_of_the_user
    masked_paths_are_masked
    memory_limit_and_oom_kill
    cpu_pids_and_ulimit
    what_the_kernel_has_of_memory_and_time_is_the_given
    disks_are_slowed_as_asked
    the_cgroups_of_a_container_are_shown_or_hidden
    a_score_and_the_cgroups_parent_are_the_given
    an_update_changes_what_it_names_and_nothing_else
    sysctl_shm_size_and_hostname
    a_device_is_given
    the_hosts_name_and_its_ipc_are_shared
    pid_and_ipc_of_another_container
    files_are_copied_in_and_out
    a_stopped_container_gives_and_takes_files
    a_container_becomes_an_image
    an_image_is_built
    a_container_is_created_renamed_and_started_later
    ten_containers_at_once
    a_user_namespace_of_given_ids
    a_user_namespace_of_free_ids
    what_systemd_needs_inside
    files_are_made_with_the_given_mask
    paths_are_masked_and_shown_by_name
    mounts_of_every_kind_arrive
    without_cgroups
    descriptors_are_preserved
    a_socket_of_a_service_manager_arrives
    readiness_is_told_by_the_container
    its_streams_are_the_callers_own
    secrets_arrive
    hooks_of_a_folder_are_run
    a_pod_shares_its_namespaces
    a_pod_takes_a_first_step_and_is_paused
    a_pod_file_is_played
    buildah_runs_a_command
    a_root_filesystem_needs_no_image
    a_private_store_is_tried_as_the_page_says
    privileged
    nothing_is_left_of_them
    a_stranger_with_a_pid_of_the_boot_before_is_spared
    a_container_comes_back_after_a_power_loss
}

engine! { USERS, "podman-rootless", Rootless, ["podman", "conmon", "newuidmap", "slirp4netns"],
    the_engine_knows_its_runtime
    a_container_prints_and_ends_with_its_status
    a_missing_program_ends_with_127
    a_program_that_may_not_be_executed_ends_with_126
    a_terminal_has_its_size_its_keys_and_its_status
    a_terminal_is_left_and_taken_up_again
    stdin_reaches_the_program
    logs_and_attach_show_what_was_printed
    exec_has_its_own_status_user_folder_and_environment
    exec_of_what_can_not_be_executed_says_so
    a_program_of_no_known_format_is_told
    exec_may_have_every_privilege
    exec_with_a_terminal
    top_by_the_containers_own_columns
    kill_and_stop_send_their_signals
    restart_begins_anew
    a_failing_container_is_restarted_as_often_as_allowed
    a_healthcheck_is_run
    a_published_port_is_reached
    a_network_with_a_name_gives_addresses
    a_network_of_pasta
    network_none_host_and_another_containers
    volumes_and_binds_keep_what_is_written
    a_folder_bound_on_a_file_is_refused
    init_reaps_and_forwards
    users_and_groups
    capabilities_are_added_and_dropped
    a_read_only_root_with_a_tmpfs
    no_new_privileges
    seccomp_profiles_of_the_engine_and_of_the_user
    masked_paths_are_masked
    ulimits_of_a_process
    a_score_and_the_cgroups_parent_are_the_given
    sysctl_shm_size_and_hostname
    a_device_is_given
    the_hosts_name_and_its_ipc_are_shared
    pid_and_ipc_of_another_container
    files_are_copied_in_and_out
    a_stopped_container_gives_and_takes_files
    a_container_becomes_an_image
    an_image_is_built
    a_container_is_created_renamed_and_started_later
    ten_containers_at_once
    a_user_namespace_of_given_ids
    a_user_namespace_of_free_ids
    the_callers_own_id_is_kept
    what_systemd_needs_inside
    files_are_made_with_the_given_mask
    paths_are_masked_and_shown_by_name
    mounts_of_every_kind_arrive
    without_cgroups
    descriptors_are_preserved
    a_socket_of_a_service_manager_arrives
    readiness_is_told_by_the_container
    its_streams_are_the_callers_own
    secrets_arrive
    hooks_of_a_folder_are_run
    a_pod_shares_its_namespaces
    a_pod_takes_a_first_step_and_is_paused
    a_pod_file_is_played
    buildah_runs_a_command
    a_root_filesystem_needs_no_image
    privileged
    nothing_is_left_of_them
    a_stranger_with_a_pid_of_the_boot_before_is_spared
    a_container_comes_back_after_a_power_loss
}

pub struct Podman(Boxes);
pub struct Rootless(Boxes);

impl Begin for Podman {
    fn begin(runtime: &str) -> Podman {
        Podman(with_a_pause(begins(runtime, Boxes::of("podman"), HERE)))
    }

    fn said(&self) -> String {
        String::new()
    }
}

impl Begin for Rootless {
    fn begin(runtime: &str) -> Rootless {
        Rootless(with_a_pause(begins(
            runtime,
            Boxes::of_user("podman"),
            HERE,
        )))
    }

    fn said(&self) -> String {
        String::new()
    }
}

impl Deref for Podman {
    type Target = Boxes;

    fn deref(&self) -> &Boxes {
        &self.0
    }
}

impl Deref for Rootless {
    type Target = Boxes;

    fn deref(&self) -> &Boxes {
        &self.0
    }
}

/// `more`: a file of settings beside the snippet's.
pub fn begins(runtime: &str, boxes: Boxes, more: &str) -> Boxes {
    std::fs::create_dir_all("/etc/containers/containers.conf.d").expect("a folder");
    std::fs::write(
        "/etc/containers/containers.conf",
        snippet("podman", runtime),
    )
    .expect("containers.conf");
    std::fs::write("/etc/containers/containers.conf.d/here.conf", more).expect("here.conf");
    // What --userns=auto gives out, for root.
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text =
            std::fs::read_to_string(file).unwrap_or_default() + "containers:1000000:200000\n";
        std::fs::write(file, text).expect(file);
    }
    boxes.imports();
    boxes
}

/// What is the first container of a pod.
fn with_a_pause(boxes: Boxes) -> Boxes {
    boxes
        .call(&[
            "import",
            "--change",
            "CMD [\"/bin/sleep\", \"3600\"]",
            ROOTFS,
            "pause:test",
        ])
        .ok();
    boxes
}
