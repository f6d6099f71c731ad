from tests.figures.test_structure_that_learns import rows

HOLDS = rows(0.02, "digits classes")
FAILS = [rows(-0.02, "digits classes"), rows(0.02, "digits classes", other=0.05)]
