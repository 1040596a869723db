r"""The filter's rules: a rule is a file. Nothing lists them; a file that is put here can be set and is asked.

    '''Rule `dark_image`: ...'''           its name is the reason of what it refuses
    ORDER = 15                              rules are asked from the lowest on; the first that refuses is the reason
    SETTING = "min_mean"                    filter.rules.min_mean of a recipe
    VALUE = Annotated[float, Field(ge=0)]   its type and range
    DEFAULT, DESCRIPTION = 20.0, "..."
    NEEDS = ("pixel_mean",)                 columns of ScoredRecord that it reads

    def decide(row, threshold) -> Verdict | None

None is for where a rule does not apply: to a row that is about no class, to one without a prompt, at a threshold that
its description calls off. A rule that compares images with those kept before has `compare(similarity, threshold)` in
place of `decide`; the stage asks it after all others, in the order of the keys.
"""
