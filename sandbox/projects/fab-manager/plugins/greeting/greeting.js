console.log("a plugin of this lab");
