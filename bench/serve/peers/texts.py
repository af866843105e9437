"""Real sentences to check peers with."""

from __future__ import annotations

import os
from pathlib import Path

BUILT_IN = tuple(
    """A man is playing a guitar.
A woman is slicing an onion in the kitchen.
Two dogs run across the wet grass.
The train to the coast leaves at half past seven.
How do I reset the password of my account?
The committee will meet again next Tuesday to discuss the budget.
A plane is taking off.
Rain is expected in the north, with strong winds near the coast.
The company reported higher profits for the third quarter in a row.
Where can I find a list of all open positions?
Someone is cutting paper with scissors.
The museum is closed on Mondays and on public holidays.
Researchers have found a new way to store energy in sand.
He put the book back on the shelf and left without a word.
What is the difference between a virus and a bacterium?
A child is riding a red bicycle down the street.
The patient was given two tablets of the drug twice a day for a week.
Please send the signed contract to the address below before the end of the month.
The price of wheat has fallen by almost a fifth since the spring.
A cat is sitting on the window sill.
The bridge was built in 1932 and carries about forty thousand cars a day.
Can I cancel my order after it has been shipped?
The team lost the final after extra time.
She studied physics before she became a painter.
Water boils at a lower temperature at high altitude.
The new law requires shops to charge for plastic bags.
A group of people is dancing on a stage.
The battery lasts about ten hours if the screen is not too bright.
Our flight was delayed by three hours because of fog.
An old man is feeding pigeons in the park.
The function returns an empty list when no rows match the query.
Add the flour slowly, stirring all the time, until the dough no longer sticks to the bowl.
The court ruled that the evidence had been obtained unlawfully.
Which of these two phones has the better camera?
Three men are playing cards at a table.
The river rose by more than two metres overnight and flooded the lower town.
Interest rates were left unchanged.
The orchestra will play works by Bach, Brahms and a young composer from Norway.
To open the lid, press the button and turn it to the left.
A horse is jumping over a fence.
Scientists warn that the glacier may vanish within thirty years.
My laptop does not start after the last update.
The café on the corner makes the best coffee in the district.
Voters in the south went to the polls on Sunday.
The index of refraction of glass depends on the wavelength of the light.
A woman is putting on make-up.
Is it safe to eat raw eggs?
The mayor promised to plant a thousand trees before the end of her term.
He has been learning Japanese for two years and can now read simple novels.
The shares fell 4 percent in early trading.
A boy is throwing a ball to his sister.
Store the medicine in a dry place, out of the reach of children.
The telescope took its first picture of a distant galaxy last week.
How far is it from the station to the old harbour?
The workers have been on strike for nine days.
A turtle is swimming in a tank.
The second edition of the book has a chapter on wind power.
Customers who paid by card will get their money back within five working days.
The storm cut off power to thousands of homes.
Thank you for your quick answer; everything works now.
A man is climbing a rope.
The recipe needs two eggs, a pinch of salt and half a litre of milk.
The government denies that talks have taken place.
The children built a small boat out of wood and let it sail on the pond behind the house.""".splitlines()
)


def _pairs(name: str) -> list[str]:
    """The sentences of a file of STS-B in FASTCPU_DATA, in order, each once; empty without it."""
    data = os.environ.get("FASTCPU_DATA")
    path = Path(data or "") / "stsb" / name
    if not data or not path.is_file():
        return []
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    return list(dict.fromkeys(text.strip() for row in rows if len(row) >= 7 for text in row[5:7]))


def check_texts(count: int = 64) -> list[str]:
    """`count` sentences of STS-B test where FASTCPU_DATA has it, spread over the file, and built-in ones elsewhere."""
    texts = _pairs("sts-test.csv") or list(BUILT_IN)
    step = max(1, len(texts) // count)
    return texts[: step * count : step]


def calibration_texts() -> list[str]:
    """Sentences to calibrate quantization with: of STS-B train, or the built-in ones."""
    texts = _pairs("sts-train.csv")
    return texts[:: max(1, len(texts) // 1024)] or list(BUILT_IN)
