"""For authors of storage plug-ins: the suite that proves one. Needs the extra `outlast[testing]`."""
