//! The files of lxcfs over those of the container's /proc and /sys: binds like those that
//! config.json may ask for itself, after its own, which count more.

use oci_spec::runtime::Mount as Entry;

use super::Plan;
use super::rootfs::Scene;
use super::wanted::Wanted;
use crate::error::Result;

const OPTIONS: [&str; 5] = ["bind", "ro", "nosuid", "nodev", "noexec"];

impl Scene<'_> {
    pub(super) fn lxcfs(&self, mounts: &[Wanted], plan: &mut Plan) -> Result<()> {
        let Some(lxcfs) = self.request.lxcfs else {
            return Ok(());
        };
        let pointer = lxcfs.pointer.unwrap_or_default();
        let is_mounted = |place: &str| mounts.iter().any(|wanted| wanted.place() == place);
        for name in &lxcfs.files {
            let below = name.split('/').next().unwrap_or_default();
            if !is_mounted(below) || is_mounted(name) {
                continue;
            }
            let source = lxcfs.directory.join(name);
            let mut entry = Entry::default();
            entry
                .set_destination(format!("/{name}").into())
                .set_typ(Some("bind".to_owned()))
                .set_source(Some(source.clone()))
                .set_options(Some(OPTIONS.map(str::to_owned).to_vec()));
            let wanted = Wanted::parse(&entry, pointer.to_owned(), plan)?;
            let attributes = self.cut_off(wanted.options.attributes);
            let source = (&*source.to_string_lossy(), pointer.to_owned());
            self.bind(&wanted, source, false, attributes, plan)?;
        }
        if !is_mounted("proc") {
            plan.note(pointer, "lxcfs has no effect: the container has no /proc");
        }
        Ok(())
    }
}
