"""The errors a user of tokkit can cause. Each message says what was asked, what was given and what would work."""


class TokkitError(Exception):
    """Base of every error that tokkit raises on purpose."""


class RecipeError(TokkitError):
    """A recipe that cannot be used. Carries every problem found, not only the first."""

    def __init__(self, problems: list[str]):
        self.problems = problems
        super().__init__("\n".join(problems))


class RegistryError(TokkitError):
    """A component that is unknown, registered twice, or whose constructor cannot serve as a schema."""


class TokenFileError(TokkitError):
    """A token file that is damaged, of another version, or made by another tokenizer."""


class InputError(TokkitError):
    """Input data or options that cannot be worked with."""
