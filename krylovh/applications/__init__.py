"""What the Hessian is for: a package per chapter, whose names are those of ``krylovh`` itself."""
