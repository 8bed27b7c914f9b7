"""Texts of django-unfold and Django that have no Japanese translation of their own, or a wrong one.

Nothing imports this: `make messages` finds the texts here and keeps them in our translation, which Django prefers to
theirs. Remove a line if the theme changes or translates its text. `STORED` is what migrations store in English, and
pages translate.
"""

from django.utils.translation import gettext_noop

UNFOLD = (
    gettext_noop("Filters"),
    gettext_noop("Apply Filters"),
    gettext_noop("Type to search"),
    gettext_noop("No results found"),
    gettext_noop("Reset filters"),
    gettext_noop("Select value"),
    gettext_noop("Select record"),
    gettext_noop("Select action"),
    gettext_noop("Select action to run"),
    gettext_noop("Select all rows"),
    gettext_noop("Expand row"),
    gettext_noop("Cancel"),
    gettext_noop("Submit"),
    gettext_noop("Welcome back to"),
    gettext_noop("Forgotten your password or username?"),
    gettext_noop("You have been successfully logged out from the administration"),
    gettext_noop("No data"),
    gettext_noop("Not enough data."),
    gettext_noop("More actions"),
    gettext_noop("True"),
    gettext_noop("False"),
    gettext_noop("This item will be deleted."),
    gettext_noop("Click to cancel"),
    gettext_noop("Previous"),
    gettext_noop("Next"),
    gettext_noop("General"),
    gettext_noop("Light"),
    gettext_noop("Dark"),
    gettext_noop("System"),
    gettext_noop("Return to site"),
    gettext_noop("Choose file to upload"),
    gettext_noop("Toggle password visibility"),
    gettext_noop("Date"),
    gettext_noop("Welcome"),
    gettext_noop("After you've created a user, you’ll be able to edit more user options."),
    gettext_noop(
        "Raw passwords are not stored, so there is no way to see this user’s password, but you can change the password"
        ' using <a href="{}" class="text-primary-600 dark:text-primary-500">this form</a>.'
    ),
)

# Django's Japanese has a space between a name and what follows, and after the name of another language too, and quotes
# names as English does.
DJANGO = (
    gettext_noop("Add %s"),
    gettext_noop("Add %(name)s"),
    gettext_noop("Add another %(verbose_name)s"),
    gettext_noop("Change %s"),
    gettext_noop("Cannot delete %(name)s"),
    gettext_noop(
        'Are you sure you want to delete the %(object_name)s "%(escaped_object)s"? All of the following related items'
        " will be deleted:"
    ),
    gettext_noop(
        "Deleting the %(object_name)s '%(escaped_object)s' would require deleting the following protected related"
        " objects:"
    ),
    gettext_noop("%(app)s administration"),
    gettext_noop("Models in the %(name)s application"),
    gettext_noop(" By %(filter_title)s "),
    gettext_noop("No password set."),
)

STORED = (gettext_noop("Default prompt of seo-gen."),)
