"""Scripts for the work on Outlast itself. They write into the checkout, so they are not part of the package."""
