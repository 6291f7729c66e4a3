"""x"""


class Familiarity: ...
