"""The reports. A report is a module named as its YAML. It takes runs as a DataFrame and makes figures and claims."""
