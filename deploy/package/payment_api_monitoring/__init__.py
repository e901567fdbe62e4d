"""The installed form of the monitoring scripts: three commands, everything else inside `app`."""
