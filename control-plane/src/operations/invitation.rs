//! Inviting somebody to a workspace: the row, and the mail with its token.

use crate::{
    access::{
        AccessError, May, TenantRole,
        invites::{self, Invite},
        permission::ManageTenant,
    },
    app::App,
    mail::Mail,
};

/// Invites an address and writes to it, once the invitation is durable. A mail that is lost is sent again by inviting again.
pub(crate) async fn invite(
    app: &App,
    may: &May<ManageTenant>,
    email: &str,
    role: TenantRole,
) -> Result<Invite, AccessError> {
    let mut tx = app.database().begin().await?;
    let (invite, new) = invites::invite(&mut tx, may, email, role, app.clock().now()).await?;
    tx.commit().await?;
    let mut link = app.settings.public_url.clone();
    link.set_path("/invite");
    // After `#`, where no server's log and no other site sees it.
    link.set_fragment(Some(new.expose()));
    let (who, slug) = (&may.caller.email, &may.place.slug);
    let text = format!(
        "{who} invites you to the workspace `{slug}`.\n\nSign in with this address, then open\n\n  {link}\n\n\
         The link is good once, until {}. If you do not know what this is about, there is nothing to do.\n",
        invite.expires_at
    );
    app.mail.send(Mail { to: invite.email.clone(), subject: format!("Invitation to {slug}"), text });
    Ok(invite)
}
