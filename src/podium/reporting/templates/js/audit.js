startTheme();
startPrint();
startTables();
