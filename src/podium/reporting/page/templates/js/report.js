startTheme();
startPrint();
startTables();
startBoard();
const open = startDialog();
startCompare();
const decided = document.querySelector(".evidence");
if (decided) startDecided(decided);
startExplore(open);
startTabs((panel) => {
  prepareLinks(panel);
  all("svg.matrix", panel).forEach((svg) => prepareMatrix(svg, open));
});
prepareLinks(document.getElementById("data"));
prepareLinks(document.querySelector("header.top"));
const compareSection = document.getElementById("compare");
if (compareSection) prepareLinks(compareSection);
