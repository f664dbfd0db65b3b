"""What people read: pages, plots, cards and tables on the terminal. It draws what others computed."""
