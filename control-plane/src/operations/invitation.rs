//! Inviting somebody to a workspace: the row, and the mail with its token.

use crate::{
    access::{
        AccessError, May, TenantRole, field,
        invites::{self, Invite},
        permission::ManageTenant,
    },
    app::App,
    mail::letters::{self, Invitation},
};

/// Invites an address and writes to it, once the invitation is durable. A mail that is lost is sent again by inviting again.
pub(crate) async fn invite(
    app: &App,
    may: &May<ManageTenant>,
    email: &str,
    role: TenantRole,
) -> Result<Invite, AccessError> {
    if !app.mail.is_set_up() {
        let message = "this server sends no mails, so that nobody could accept an invitation; ask its operator to set up \
            SMTP, or to make the account with `agentruntime admin create-owner`";
        return Err(AccessError::NotConfigured(message));
    }
    // It is the same in every way of writing it, so that none of them is another to the counter.
    let email = field::email(email)?;
    app.attempts.invitation(may.caller.user, &may.place.tenant, &email)?;
    let mut tx = app.database().begin().await?;
    let (invite, new) = invites::invite(&mut tx, may, &email, role, app.clock().now()).await?;
    tx.commit().await?;
    let (from, slug, token) = (may.caller.email.as_str(), may.place.slug.as_str(), new.expose());
    let invitation = Invitation { from, slug, token, expires: invite.expires_at.to_string() };
    app.mail.send(letters::invitation(&app.settings.public_url, invite.email.clone(), &invitation));
    Ok(invite)
}
