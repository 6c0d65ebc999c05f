"""The reports, one module a study, named as its YAML: runs come from MLflow as a DataFrame; figures and claims go out."""
