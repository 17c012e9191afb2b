"""The same 20 rules by Great Expectations on pandas, with its usual results. python contract_gx.py TABLE."""

import sys

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
from works import serve

LEVELS = [f"level {j}" for j in range(20)]
frame = pd.read_parquet(sys.argv[1])
frame["later"] = frame["age"] + 20
context = gx.get_context(mode="ephemeral")
context.variables.progress_bars = {"globally": False}
batch = (
    context.data_sources.add_pandas("pandas").add_dataframe_asset("table").add_batch_definition_whole_dataframe("all")
)
suite = context.suites.add(
    gx.ExpectationSuite(
        "rules",
        expectations=[
            gxe.ExpectColumnValuesToBeUnique(column="id"),
            gxe.ExpectColumnValuesToBeBetween(column="days", min_value=1, max_value=14),
            *(gxe.ExpectColumnValuesToBeBetween(column=f"n{i}", min_value=-20, max_value=120) for i in range(8)),
            *(gxe.ExpectColumnValuesToNotBeNull(column=f"n{i}") for i in range(8, 12)),
            gxe.ExpectColumnValuesToBeInSet(column="c0", value_set=LEVELS[:2]),
            gxe.ExpectColumnValuesToBeInSet(column="c1", value_set=LEVELS[:5]),
            gxe.ExpectColumnValuesToBeInSet(column="c2", value_set=LEVELS),
            gxe.ExpectColumnValuesToMatchRegex(column="c3", regex=r"^level \d+$"),
            gxe.ExpectColumnValuesToBeOfType(column="age", type_="int64"),
            gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="later", column_B="days"),
        ],
    )
)
definition = context.validation_definitions.add(gx.ValidationDefinition(name="all", data=batch, suite=suite))


def check() -> object:
    return definition.run(batch_parameters={"dataframe": frame})


found = check()
assert not found.success
assert not [one for one in found.results if one.exception_info.get("raised_exception")]
serve({"check": check})
