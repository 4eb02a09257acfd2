// guest
